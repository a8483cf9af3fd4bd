package healthmesh

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// findNumber reads JSON and follows path, "a.b.0.c", to a number.
func findNumber(body []byte, path string) (float64, error) {
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return 0, fmt.Errorf("answer is not JSON: %w", err)
	}
	for step := range strings.SplitSeq(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(v) {
				return 0, fmt.Errorf("no element %q on the way to %q", step, path)
			}
			value = v[i]
		default:
			return 0, fmt.Errorf("nothing at %q on the way to %q", step, path)
		}
	}
	number, ok := value.(float64)
	if !ok {
		return 0, fmt.Errorf("no number at %q", path)
	}
	return number, nil
}

// sumMetric reads a Prometheus exposition in text form and adds up the samples of the metric of that name with these labels.
func sumMetric(body []byte, name string, labels []LabelConfig) (float64, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("answer is not a Prometheus exposition: %w", err)
	}
	family := families[name]
	if family == nil {
		return 0, fmt.Errorf("no metric %q", name)
	}
	sum, found := 0.0, false
	for _, m := range family.Metric {
		if !labelled(m, labels) {
			continue
		}
		v, err := sample(m)
		if err != nil {
			return 0, fmt.Errorf("metric %q: %w", name, err)
		}
		sum, found = sum+v, true
	}
	if !found { // what is not exposed is not known to be 0
		return 0, fmt.Errorf("no sample of metric %q with the labels %v", name, labels)
	}
	return sum, nil
}

func labelled(m *dto.Metric, labels []LabelConfig) bool {
	for _, want := range labels {
		i := slices.IndexFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == want.Name })
		has := ""
		if i >= 0 {
			has = m.Label[i].GetValue()
		}
		if has != want.Value {
			return false
		}
	}
	return true
}

func sample(m *dto.Metric) (float64, error) {
	switch {
	case m.Gauge != nil:
		return m.Gauge.GetValue(), nil
	case m.Counter != nil:
		return 0, errors.New("is a counter, which only grows, a gauge is accepted")
	case m.Untyped != nil:
		return m.Untyped.GetValue(), nil
	}
	return 0, errors.New("is a histogram or summary, a gauge is accepted")
}

// sumColumn reads HAProxy's statistics (its management guide, section 9.1, "CSV format") and adds up a column of the rows of a
// proxy, of all proxies if that is "".
func sumColumn(body []byte, column, proxy, row string) (float64, error) {
	if !bytes.HasPrefix(body, []byte("# pxname,svname,")) {
		return 0, fmt.Errorf("answer is not HAProxy's CSV, it begins with %.40q", body)
	}
	reader := csv.NewReader(bytes.NewReader(body[2:]))
	reader.FieldsPerRecord = 0 // as many as the first line has
	rows, err := reader.ReadAll()
	if err != nil {
		return 0, fmt.Errorf("answer is not HAProxy's CSV: %w", err)
	}
	at := slices.Index(rows[0], column)
	if at < 0 {
		return 0, fmt.Errorf("no column %q", column)
	}
	sum, found := 0.0, false
	for _, r := range rows[1:] {
		if proxy != "" && r[0] != proxy || r[1] != row {
			continue
		}
		v, err := strconv.ParseFloat(r[at], 64)
		if err != nil {
			return 0, fmt.Errorf("column %q of %s/%s is %q, not a number", column, r[0], r[1], r[at])
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("no row %q of proxy %q", row, proxy)
	}
	return sum, nil
}

// activeConnections reads nginx's ngx_http_stub_status_module.
func activeConnections(body []byte) (float64, error) {
	for line := range strings.Lines(string(body)) {
		if text, ok := strings.CutPrefix(line, "Active connections:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
			return float64(n), err
		}
	}
	return 0, fmt.Errorf("answer is not nginx's stub_status, it begins with %.40q", body)
}

// envoyStat reads the answer of Envoy's admin interface to /stats, as JSON or text: the counter or gauge of that name, or, if it is
// "", the sum of the requests that the HTTP connection managers have in work.
func envoyStat(body []byte, name string) (float64, error) {
	stats, err := envoyStats(body)
	if err != nil {
		return 0, err
	}
	if name != "" {
		v, ok := stats[name]
		if !ok {
			return 0, fmt.Errorf("no counter or gauge %q", name)
		}
		return v, nil
	}
	sum, found := 0.0, false
	for stat, v := range stats {
		prefix, ok := strings.CutSuffix(stat, ".downstream_rq_active")
		if ok && strings.HasPrefix(prefix, "http.") && prefix != "http.admin" {
			sum, found = sum+v, true
		}
	}
	if !found {
		return 0, errors.New(`no "http.*.downstream_rq_active" but the admin interface's`)
	}
	return sum, nil
}

// envoyStats are the counters and gauges; histograms and texts are left out.
func envoyStats(body []byte) (map[string]float64, error) {
	stats := map[string]float64{}
	if body[0] == '{' {
		var answer struct {
			Stats []struct {
				Name  string `json:"name"`
				Value any    `json:"value"`
			} `json:"stats"`
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			return nil, fmt.Errorf("answer is not Envoy's JSON: %w", err)
		}
		for _, s := range answer.Stats {
			if v, ok := s.Value.(float64); ok {
				stats[s.Name] = v
			}
		}
		return stats, nil
	}
	for line := range strings.Lines(string(body)) {
		if name, text, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			if v, err := strconv.ParseFloat(text, 64); err == nil { // else a histogram or text
				stats[name] = v
			}
		}
	}
	return stats, nil
}
