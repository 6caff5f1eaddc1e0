package report

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/loadtest/openloop"
)

var rewrite = flag.Bool("rewrite", false, "write the golden file anew")

// sample is a run of everything that a run may hold. The durations of its load are round: no clock but the bubble's
// has a part in it.
func sample(t *testing.T, slower time.Duration) (r *Run) {
	synctest.Test(t, func(t *testing.T) {
		o, err := openloop.Load{For: 3 * time.Second, Workers: 2}.Run(t.Context(), func(context.Context, int) (openloop.Operation, error) {
			return func(_ context.Context, i int64) error {
				time.Sleep(time.Millisecond + slower)
				if i == 7 {
					time.Sleep(200 * time.Millisecond)
					return errors.New(`no answer from <the "server">`)
				}
				return nil
			}, nil
		})
		require.NoError(t, err)
		waits := []time.Duration{900 * time.Microsecond, 2 * time.Millisecond, 2 * time.Millisecond, 31 * time.Millisecond}
		r = &Run{
			Started: time.Date(2026, 11, 23, 4, 30, 0, 0, time.UTC), Seconds: 3,
			Machine: Machine{CPU: "Abacus", Cores: 2, MemoryGiB: 24, System: "linux/amd64", Go: "go1.26", Version: "v0", Busy: 0.1},
			Scenarios: []Scenario{
				{Name: "checks", About: "Keys & <doors>.", Series: []Series{Of("HTTP", 0, o)}, Figures: []Figure{{"capacity", 12345, "checks/s"}}},
				{Name: "revocation", About: "Deletes.", CDF: true, Series: []Series{OfWaits("confirmed", waits)}},
				{Name: "incumbents", About: "Ours and theirs.", Figures: []Figure{{"ours", 60, "checks/s"}, {"theirs", 30, "checks/s"}, {"his & hers", 0, "checks/s"}}},
				{Name: "memory", About: "Nothing but numbers.", Figures: []Figure{{"verifier", 154.6, "MiB per million keys"}}},
			},
		}
	})
	return r
}

func TestGoldenJSON(t *testing.T) {
	r := sample(t, 0)
	text, err := json.MarshalIndent(r, "", " ")
	require.NoError(t, err)
	golden := filepath.Join("testdata", "run.json")
	if *rewrite {
		require.NoError(t, os.WriteFile(golden, append(text, '\n'), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), string(text)+"\n")

	var read Run
	require.NoError(t, json.Unmarshal(want, &read))
	require.Equal(t, r, &read, "what was written is what is read")
}

func TestQuantilesThatNobodySpeaksForAreLeftOut(t *testing.T) {
	s := OfWaits("four", []time.Duration{1, 2, 3, 4})
	require.Equal(t, 0.002, s.At(50))
	require.Equal(t, 0.003, s.At(75))
	require.True(t, math.IsNaN(s.At(99)), "of four there is no hundredth part")
	require.Equal(t, 0.004, s.At(100))
	require.Empty(t, OfWaits("none", nil).Latency)
}

func TestPageOfNothing(t *testing.T) {
	var text bytes.Buffer
	empty := &Run{Scenarios: []Scenario{{Name: "nothing", Series: []Series{OfWaits("none", nil)}}}}
	require.NoError(t, Write(&text, empty, nil))
	require.NotContains(t, text.String(), "<svg")
	require.NotContains(t, text.String(), "NaN")
}

func TestPageOfTwoSetsThemBesideEachOther(t *testing.T) {
	var text bytes.Buffer
	require.NoError(t, Write(&text, sample(t, 0), sample(t, time.Millisecond)))
	require.Contains(t, text.String(), `<span class="was">2 ms → </span>1 ms <span class="was">-50%</span>`)
	require.Contains(t, text.String(), `class="c0 dashed"`)
	require.Contains(t, text.String(), "&lt;the &#34;server&#34;&gt;", "what a server says is text")
}

// The page in a browser: every plot is there and has its size, nothing is fetched, and nothing is complained of.
func TestPageInABrowser(t *testing.T) {
	ctx := openBrowser(t)
	file := filepath.Join(t.ArtifactDir(), "page.html")
	var text bytes.Buffer
	require.NoError(t, Write(&text, sample(t, 0), sample(t, time.Millisecond)))
	require.NotContains(t, text.String(), "<script")
	require.NoError(t, os.WriteFile(file, text.Bytes(), 0o600))
	var complaints []string
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			complaints = append(complaints, e.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			complaints = append(complaints, string(e.Type))
		}
	})
	var charts, empty, fetched int
	var outside []string
	var picture []byte
	require.NoError(t, chromedp.Run(ctx, chromedp.Navigate("file://"+file),
		chromedp.Evaluate(`document.querySelectorAll("svg.chart").length`, &charts),
		chromedp.Evaluate(`[...document.querySelectorAll("svg.chart path")].filter(p => !(p.getTotalLength() > 10)).length`, &empty),
		chromedp.Evaluate(`performance.getEntriesByType("resource").length`, &fetched),
		chromedp.Evaluate(`[...document.querySelectorAll("svg.chart")].flatMap(svg => [...svg.querySelectorAll("text")].filter(t => {
			const a = svg.getBoundingClientRect(), b = t.getBoundingClientRect()
			return b.left < a.left || b.right > a.right || b.bottom > a.bottom }).map(t => t.textContent))`, &outside),
		chromedp.FullScreenshot(&picture, 100)))
	require.NoError(t, os.WriteFile(filepath.Join(t.ArtifactDir(), "page.png"), picture, 0o600))
	require.Equal(t, 6, charts, "three of checks, two of revocation, one of incumbents, none of memory")
	require.Zero(t, empty, "lines without length")
	require.Zero(t, fetched)
	require.Empty(t, outside, "texts that stick out of their charts")
	require.Empty(t, strings.Join(complaints, "\n"))
}

// The picture that pages elsewhere show stands alone, and is well-formed with any of its parts missing.
func TestNumbers(t *testing.T) {
	for name, r := range map[string]*Run{"all": sample(t, 0), "nothing": {}} {
		picture := Numbers(r)
		require.NoError(t, xml.Unmarshal(picture, new(struct{})), name)
		require.Equal(t, len(r.Scenarios) > 0, bytes.Contains(picture, []byte("his &amp; hers")), name)
		require.Equal(t, len(r.Scenarios) > 0, bytes.Contains(picture, []byte("confirmed")), name)
	}
}

func TestMarkdown(t *testing.T) {
	var text bytes.Buffer
	require.NoError(t, WriteMarkdown(&text, sample(t, 0)))
	require.Contains(t, text.String(), "2 cores of Abacus")
	require.Contains(t, text.String(), "\n| figure | |\n|---|---|\n| capacity | 12,345 checks/s |\n")
	require.Contains(t, text.String(), "\n| confirmed | – | – | 0 | 2 ms | – | – | – | 31 ms | – | – |\n")
	require.Contains(t, text.String(), "\nFailed: HTTP: no answer from")
	require.NotContains(t, text.String(), "NaN")
}

func openBrowser(t *testing.T) context.Context {
	t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("chromium is missing: .ci/needs installs it")
		}
		t.Skip("chromium is not here: .ci/needs installs it")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.WindowSize(1180, 900))
	if os.Getuid() == 0 {
		opts = append(opts, chromedp.NoSandbox) // it refuses to run as root with one
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 90*time.Second)
	t.Cleanup(cancel)
	return ctx
}
