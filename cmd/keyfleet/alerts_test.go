package main

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	alertsFile     = "../../deploy/prometheus/alerts.yml"
	alertsTestFile = "../../deploy/prometheus/alerts_test.yml"
	runbooksPage   = "../../docs/runbooks.md"
)

var (
	ourMetric   = regexp.MustCompile(`\b(keyfleet|process)_[a-z0-9_]+`)
	metricLine  = regexp.MustCompile(`(?m)^([a-z0-9_]+)[{ ]`)
	alertName   = regexp.MustCompile(`(?m)^ +- alert: (\w+)$`)
	alertRings  = regexp.MustCompile(`\{alertname="(\w+)"\}', value: 1\}`)
	runbookLink = regexp.MustCompile(`runbook_url: (\S+)`)
	pageHeading = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

func TestAlertsAsPrometheusReadsThem(t *testing.T) {
	requireProgram(t, "promtool")
	for _, args := range [][]string{{"check", "config", "prometheus.yml"}, {"test", "rules", "alerts_test.yml"}} {
		promtool := exec.Command("promtool", args...)
		promtool.Dir = filepath.Dir(alertsFile)
		said, err := promtool.CombinedOutput()
		require.NoError(t, err, "promtool %v: %s", args, said)
	}
}

func TestEveryAlertRingsInATestAndHasARunbook(t *testing.T) {
	alerts := read(t, alertsFile)
	names := found(alertName, alerts)
	require.NotEmpty(t, names)
	require.Subset(t, found(alertRings, read(t, alertsTestFile)), names, "alerts_test.yml shows each alert ringing")

	var anchors []string
	for _, heading := range found(pageHeading, read(t, runbooksPage)) {
		anchors = append(anchors, anchorOf(heading))
	}
	require.Equal(t, len(names), strings.Count(alerts, "runbook_url:"), "every alert has a runbook")
	for _, link := range found(runbookLink, alerts) {
		page, anchor, _ := strings.Cut(link, "#")
		require.Equal(t, "https://github.com/keyfleet/keyfleet/blob/main/docs/runbooks.md", page)
		require.Contains(t, anchors, anchor)
	}
}

// What alerts and dashboard ask for is there, and Prometheus has nothing against how it is called.
func TestMetrics(t *testing.T) {
	dev := startDev(t, filepath.Join(t.TempDir(), "data"))
	status, metrics := get(t, http.MethodGet, dev.Admin+"/metrics", "", "")
	require.Equal(t, http.StatusOK, status)
	there := found(metricLine, metrics)
	for _, file := range []string{alertsFile, alertsTestFile} {
		require.Subset(t, there, ourMetric.FindAllString(read(t, file), -1), file)
	}
	for _, query := range dashboardQueries(t) {
		require.Subset(t, there, ourMetric.FindAllString(query, -1), query)
	}
	requireProgram(t, "promtool")
	lint := exec.Command("promtool", "check", "metrics")
	lint.Stdin = strings.NewReader(metrics)
	said, err := lint.CombinedOutput()
	require.NoError(t, err, "promtool: %s", said)
	require.Empty(t, string(said))
}

func TestWhatARegistryShowsItsOperators(t *testing.T) {
	f := startFleetOfProcesses(t)
	for path, want := range map[string]string{
		"/livez": "ok\n", "/readyz": `"active":true`, "/metrics": "keyfleet_registry_active 1", "/debug/": "goroutine",
	} {
		status, body := get(t, http.MethodGet, f.registry.addresses["admin"]+path, "", "")
		require.Equal(t, http.StatusOK, status, path)
		require.Contains(t, body, want)
	}
}

func dashboardQueries(t *testing.T) (queries []string) {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			ID      int
			Type    string
			Title   string
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(read(t, "../../deploy/grafana/keyfleet.json")), &dashboard))
	ids := map[int]bool{}
	for _, panel := range dashboard.Panels {
		require.False(t, ids[panel.ID], "two panels are number %d", panel.ID)
		ids[panel.ID] = true
		require.True(t, panel.Type == "row" || len(panel.Targets) > 0, panel.Title)
		for _, target := range panel.Targets {
			queries = append(queries, target.Expr)
		}
	}
	require.NotEmpty(t, queries)
	return queries
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}

// found gives the first group of each match.
func found(pattern *regexp.Regexp, text string) (groups []string) {
	for _, match := range pattern.FindAllStringSubmatch(text, -1) {
		groups = append(groups, match[1])
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}

// anchorOf is how a heading is linked to.
func anchorOf(heading string) string {
	return strings.ReplaceAll(regexp.MustCompile(`[^-\w ]`).ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}
