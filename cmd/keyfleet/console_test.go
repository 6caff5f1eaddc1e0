package main

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// browser is a headless Chromium. Its screenshots are artefacts of the test: go test -artifacts keeps them.
type browser struct {
	context.Context
	t   testing.TB
	axe string // axe-core, a script; empty where it could not be had
}

func openBrowser(t testing.TB) *browser {
	t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("chromium is missing: .ci/needs installs it")
		}
		t.Skip("chromium is not here: .ci/needs installs it")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.WindowSize(1280, 860))
	if os.Getuid() == 0 {
		opts = append(opts, chromedp.NoSandbox) // it refuses to run as root with one
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 90*time.Second)
	t.Cleanup(cancel)
	return &browser{Context: ctx, t: t}
}

func (b *browser) do(actions ...chromedp.Action) {
	b.t.Helper()
	require.NoError(b.t, chromedp.Run(b, actions...))
}

// see waits until the text is to be seen on the page, or the one that the browser is led to.
func (b *browser) see(text string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		var shown string
		_ = chromedp.Run(b, chromedp.Evaluate(`document.querySelector("main")?.innerText ?? ""`, &shown)) // it fails between two pages
		return strings.Contains(shown, text)
	}, 20*time.Second, 20*time.Millisecond, text)
}

func (b *browser) press(button string) {
	b.t.Helper()
	b.do(chromedp.Click(`//main//*[self::button or self::a or self::summary][normalize-space()="` + button + `"]`))
}

// photograph keeps a picture of the page, once nothing about it keeps anybody out: axe-core looks for that.
func (b *browser) photograph(name string) {
	b.t.Helper()
	b.requireAccessible(name)
	var picture []byte
	b.do(chromedp.FullScreenshot(&picture, 100))
	require.NoError(b.t, os.WriteFile(filepath.Join(b.t.ArtifactDir(), name+".png"), picture, 0o600))
}

// learnAxe reads axe-core. Without the network, and where it was never installed, the pages are looked at by people alone.
func (b *browser) learnAxe(t *testing.T) {
	t.Helper()
	dir, err := installed(t, "axe")
	if err != nil {
		t.Logf("axe-core is not here, and looks at no page: %v", err)
		return
	}
	source, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	require.NoError(t, err)
	b.axe = string(source)
}

func (b *browser) requireAccessible(name string) {
	b.t.Helper()
	if b.axe == "" {
		return
	}
	var found []string
	b.do(chromedp.Evaluate(b.axe+";0", nil), chromedp.Evaluate(
		`axe.run().then((r) => !r.passes.length ? ["axe looked at nothing"] : r.violations.flatMap((v) => v.nodes.map((n) => v.impact + " " + v.id + " " + n.target)))`, &found,
		func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	require.Empty(b.t, found, name)
}

func (b *browser) text(selector string) (text string) {
	b.t.Helper()
	b.do(chromedp.Text(selector, &text))
	return text
}

// TestConsole is what a person does: create a key, copy it, call a model with it, edit it, delete it and watch that it is dead.
func TestConsole(t *testing.T) {
	b := openBrowser(t)
	b.learnAxe(t)
	dev := startDev(t, filepath.Join(t.TempDir(), "data"))
	b.do(chromedp.Navigate(dev.HTTP))
	b.photograph("signin")
	b.do(chromedp.SendKeys("#key", dev.AdminKey), chromedp.Submit("#key"))
	b.see("demo")
	b.photograph("projects")
	b.do(chromedp.Navigate(dev.HTTP + "/projects/demo/keys"))
	b.press("Create API key")
	b.do(
		chromedp.SendKeys("#name", "console-key"), chromedp.SendKeys("#description", "made in a browser"),
		chromedp.SendKeys("#filter", "echo"), chromedp.Click(`input[value="echo-model"]`),
		chromedp.SetValue("#expires-on", "2099-01-31"), chromedp.Evaluate(`document.querySelector("#expires-on").dispatchEvent(new Event("input"))`, nil),
	)
	b.see("Its last usable moment, by your clock")
	b.photograph("create")
	b.press("Create API key")
	b.do(chromedp.WaitVisible("#secret-dialog"))
	secret := b.text("#secret-text")
	require.Regexp(t, `^kf_[0-9A-Za-z]{49}$`, secret)
	b.photograph("secret")
	b.press("OK, I've copied API key")
	b.see("console-key")
	status, _ := dev.chat(t, secret, hello)
	require.Equal(t, http.StatusOK, status, "a secret made in the browser opens")

	b.editTabs(dev)
	b.see("console-key.v2")
	b.do(chromedp.Navigate(dev.HTTP + "/projects/demo/keys"))
	b.do(chromedp.Click(`summary[aria-label="Actions for console-key.v2"]`))
	b.photograph("keys")
	b.press("Delete")
	b.see("loses access to")
	b.photograph("delete")
	b.press("Delete API key")
	b.see("console-key.v2 is deleted")
	b.see("Every verifier has applied it")
	b.photograph("receipt")
	status, _ = dev.chat(t, secret, hello)
	require.Equal(t, http.StatusUnauthorized, status)

	b.lookAround(dev)
}

func (b *browser) editTabs(dev *devProcess) {
	at := dev.HTTP + "/projects/demo/keys/console-key"
	b.do(chromedp.Navigate(at), chromedp.SetValue("#name", "console-key.v2"))
	b.photograph("edit")
	b.press("Save")
	b.see("Saved.")
	at += ".v2"
	b.do(chromedp.Navigate(at+"?tab=expiration"), chromedp.Click(`input[value="never"]`))
	b.press("Save")
	b.see("Saved.")
	b.do(chromedp.Navigate(at + "?tab=instances"))
	b.photograph("instances")
	b.press("Save")
	b.see("Saved.")
	b.do(chromedp.Navigate(at + "?tab=history"))
	b.see("expiry changed")
	b.photograph("history")
	b.do(chromedp.Navigate(at + "?tab=usage"))
	b.see("Last used")
	b.photograph("usage")
}

// lookAround visits the other pages, and all in the dark and on a phone. It comes from a page that renews itself, and
// chromedp may then wait for good for a node that it thinks it knows: hence see, which asks the page.
func (b *browser) lookAround(dev *devProcess) {
	pages := []struct{ name, path, shows string }{
		{"deployments", "/projects/demo/deployments", "echo-model"},
		{"deployment", "/projects/demo/deployments/echo-model", "this deployment opens to nobody"},
		{"fleet", "/fleet", "local"},
		{"identify", "/projects/demo/identify", "Whose"},
		{"audit", "/projects/demo/audit", "deleted"},
	}
	for _, page := range pages {
		b.do(chromedp.Navigate(dev.HTTP + page.path))
		b.see(page.shows)
		b.photograph(page.name)
	}
	b.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}))
	b.do(chromedp.Navigate(dev.HTTP + "/projects/_admin/keys/dev-admin?tab=secret"))
	b.photograph("dark")
	b.do(chromedp.EmulateViewport(390, 800))
	b.do(chromedp.Navigate(dev.HTTP + "/projects/_admin/keys"))
	b.photograph("phone")
	var wide bool
	b.do(chromedp.Evaluate(`document.documentElement.scrollWidth > innerWidth`, &wide))
	require.False(b.t, wide, "a phone need not be scrolled sideways")
}
