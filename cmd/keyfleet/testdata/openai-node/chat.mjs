// Talks to a model as providers' documentation says, with the real SDK: node chat.mjs BASE_URL KEY

import OpenAI from "openai";

const [baseURL, key] = process.argv.slice(2);

// overriding sends the key in a header of its own choice instead of a bearer token.
class Overriding extends OpenAI {
  async authHeaders() {
    return { "X-API-Key": this.apiKey };
  }
}

const clients = {
  "a header beside a dummy": new OpenAI({ baseURL, apiKey: "dummy", defaultHeaders: { "x-api-Key": key } }),
  "another header instead": new Overriding({ baseURL, apiKey: key }),
  "a bearer token": new OpenAI({ baseURL, apiKey: key }),
};

const ask = { model: "echo-model", messages: [{ role: "user", content: "Hello, edge!" }] };

for (const [name, client] of Object.entries(clients)) {
  const whole = await client.chat.completions.create(ask);
  let streamed = "";
  for await (const piece of await client.chat.completions.create({ ...ask, stream: true })) {
    streamed += piece.choices[0]?.delta?.content ?? "";
  }
  console.log(`${name}: ${whole.choices[0].message.content} ${streamed}`);
}

try {
  await new OpenAI({ baseURL, apiKey: "dummy", maxRetries: 0 }).chat.completions.create(ask);
} catch (refusal) {
  console.log(`refused: ${refusal.constructor.name} ${refusal.status} ${refusal.code} ${refusal.message}`);
}
