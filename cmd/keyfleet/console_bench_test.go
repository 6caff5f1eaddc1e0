package main

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// importKeys sends so many digests as NDJSON.
func importKeys(b *testing.B, dev *devProcess, n int) {
	var lines strings.Builder
	for i := range n {
		digest := sha256.Sum256(fmt.Append(nil, i))
		fmt.Fprintf(&lines, `{"name":"key-%07d","digest":"%x","hint":"sk-%d","deployment_names":["echo-model"]}`+"\n", i, digest, i)
	}
	answer := rest(b, http.MethodPost, dev.HTTP+"/cloud/v3/inference/demo/api_keys/import", dev.AdminKey, lines.String())
	require.Equal(b, http.StatusOK, answer.status)
	require.Contains(b, answer.body, fmt.Sprintf(`"imported":%d,"refused":0`, n))
}

// BenchmarkImport imports 100,000 digests into a dev: over HTTP, onto disk, into the verifier.
func BenchmarkImport(b *testing.B) {
	const n = 100_000
	for b.Loop() {
		b.StopTimer()
		dev := startDev(b, filepath.Join(b.TempDir(), "data"))
		b.StartTimer()
		importKeys(b, dev, n)
		b.StopTimer()
		dev.kill()
		b.StartTimer()
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "keys/s")
}

// BenchmarkConsolePages loads the keys of a project that has 10,000, in a browser that has seen nothing of the console yet, and
// then again.
func BenchmarkConsolePages(b *testing.B) {
	dev := startDev(b, filepath.Join(b.TempDir(), "data"))
	importKeys(b, dev, 10_000)
	w := openBrowser(b)
	w.do(chromedp.Navigate(dev.HTTP), chromedp.SendKeys("#key", dev.AdminKey), chromedp.Submit("#key"))
	w.see("demo")
	var seen struct{ Page, All, Interactive float64 }
	sum := seen
	for b.Loop() {
		w.do(chromedp.Navigate(dev.HTTP+"/projects/demo/keys?offset=5000"), chromedp.WaitVisible("h1"), chromedp.Evaluate(`(() => {
			const page = performance.getEntriesByType("navigation")[0];
			return { Page: page.transferSize, Interactive: page.domInteractive,
				All: performance.getEntriesByType("resource").reduce((sum, r) => sum + r.transferSize, page.transferSize) };
		})()`, &seen))
		sum.Page, sum.All, sum.Interactive = sum.Page+seen.Page, sum.All+seen.All, sum.Interactive+seen.Interactive
	}
	n := float64(b.N)
	b.ReportMetric(sum.Page/n, "page-B")
	b.ReportMetric(sum.All/n, "transferred-B")
	b.ReportMetric(sum.Interactive/n, "interactive-ms")
}
