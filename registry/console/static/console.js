// What the pages cannot do by themselves: make secrets, say times as the viewer's clock has them, and stay live.
"use strict";

const alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

function base62(number, width) {
  let text = "";
  for (; number > 0n; number /= 62n) text = alphabet[Number(number % 62n)] + text;
  return text.padStart(width, "0");
}

function crc32(text) {
  let sum = 0xffffffff;
  for (const c of new TextEncoder().encode(text)) {
    sum ^= c;
    for (let i = 0; i < 8; i++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return (sum ^ 0xffffffff) >>> 0;
}

const hex = (bytes) => Array.from(new Uint8Array(bytes), (b) => b.toString(16).padStart(2, "0")).join("");

const digestOf = async (text) => hex(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));

// As events/apikey makes them: kf_, 256 bits in base62, and a checksum of all that.
function makeSecret() {
  const random = base62(BigInt("0x" + hex(crypto.getRandomValues(new Uint8Array(32)))), 43);
  return { text: "kf_" + random + base62(BigInt(crc32("kf_" + random)), 6), hint: `kf_${random.slice(0, 4)}…${random.slice(-4)}` };
}

// A form sent twice, such as after an answer that was lost, keeps its secret: its command has one effect.
async function sendWithSecret(form) {
  const trouble = form.querySelector("[data-trouble]");
  const secret = (form.secret ??= makeSecret());
  form.elements.digest.value = await digestOf(secret.text);
  form.elements.hint.value = secret.hint;
  let answer;
  try {
    const reply = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), headers: { Accept: "application/json" } });
    answer = await reply.json();
  } catch {
    answer = { error: "No answer came, and it is not known whether the key was made. Send the form again: it has one effect." };
  }
  if (answer.error) {
    trouble.textContent = answer.error;
    trouble.hidden = false;
    trouble.scrollIntoView({ block: "nearest" });
    return;
  }
  const dialog = document.getElementById("secret-dialog");
  document.getElementById("secret-text").textContent = secret.text;
  dialog.addEventListener("cancel", (e) => e.preventDefault());
  dialog.addEventListener("close", () => location.assign(answer.location));
  dialog.showModal();
}

for (const form of document.querySelectorAll("[data-makes-secret]")) {
  if (!window.isSecureContext) {
    document.querySelector("[data-insecure]").hidden = false;
    continue;
  }
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    const button = e.submitter;
    if (button) button.disabled = true;
    await sendWithSecret(form);
    if (button) button.disabled = false;
  });
}

for (const form of document.querySelectorAll("[data-sends-digest]")) {
  if (!window.isSecureContext) continue;
  form.querySelector("[data-secure]").hidden = false;
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    form.elements.digest.value = await digestOf(form.elements.key.value.trim());
    form.elements.key.disabled = true;
    form.submit();
  });
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const from = document.getElementById(button.dataset.copy);
    const said = document.getElementById("copied");
    try {
      await navigator.clipboard.writeText(from.textContent);
      said.textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(from);
      said.textContent = "It is selected: copy it with the keyboard.";
    }
  });
}

for (const input of document.querySelectorAll("[data-filter]")) {
  const items = document.getElementById(input.dataset.filter).children;
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    for (const item of items) item.hidden = !item.textContent.toLowerCase().includes(wanted);
  });
  input.addEventListener("keydown", (e) => e.key === "Enter" && e.preventDefault());
}

for (const note of document.querySelectorAll("[data-last-moment]")) {
  const input = document.getElementById(note.dataset.lastMoment);
  const plain = note.textContent;
  const tell = () => {
    const dies = input.valueAsDate;
    note.textContent = plain;
    if (!dies) return;
    const last = new Date(dies.getTime() - 1000).toLocaleString(undefined, { dateStyle: "full", timeStyle: "long" });
    note.textContent = `The key dies at 00:00 UTC of ${input.value}. Its last usable moment, by your clock: ${last}.`;
    if (dies <= new Date()) note.textContent += " That is in the past: the key is dead at once.";
  };
  input.addEventListener("input", () => {
    document.querySelector('[name="expiry"][value="date"]').checked = true;
    tell();
  });
  tell();
}

// Live parts are fetched anew with their whole page, which the server makes as it made this one.
async function keepLive(part) {
  while (part?.dataset.live) {
    await new Promise((wake) => setTimeout(wake, Number(part.dataset.live)));
    if (document.hidden) continue;
    try {
      const reply = await fetch(location.href);
      if (reply.redirected || !reply.ok) continue;
      const fresh = new DOMParser().parseFromString(await reply.text(), "text/html").querySelector("[data-live], [data-state]");
      if (!fresh) return;
      part.replaceWith(fresh);
      part = fresh;
    } catch {
      // The next attempt may be luckier.
    }
  }
}
keepLive(document.querySelector("[data-live]"));

document.addEventListener("click", (e) => {
  for (const menu of document.querySelectorAll(".menu[open]")) if (!menu.contains(e.target)) menu.open = false;
});
document.addEventListener("keydown", (e) => {
  if (e.key !== "Escape") return;
  for (const menu of document.querySelectorAll(".menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});
