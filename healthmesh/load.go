package healthmesh

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const (
	maxLoadBody = 8 << 20         // bytes of an answer: a large exposition has a few MiB
	loadTimeout = 2 * time.Second // of one reading
)

// readLoad reads the load once.
func readLoad(ctx context.Context, client *http.Client, c LoadConfig) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return 0, err
	}
	answer, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("status %d", answer.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxLoadBody+1))
	switch {
	case err != nil:
		return 0, err
	case len(body) > maxLoadBody:
		return 0, fmt.Errorf("answer has more than %d bytes", maxLoadBody) // a part of it would give a part of the load
	}
	var load float64
	if c.Metric != "" {
		load, err = sumMetric(body, c.Metric)
	} else {
		load, err = findNumber(body, c.JSON)
	}
	switch {
	case err != nil:
		return 0, err
	case math.IsNaN(load) || math.IsInf(load, 0):
		return 0, fmt.Errorf("load is %v", load)
	}
	return max(load, 0), nil
}

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

// sumMetric reads a Prometheus exposition in text form and adds up the samples of the metric of that name.
func sumMetric(body []byte, name string) (float64, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("answer is not a Prometheus exposition: %w", err)
	}
	family := families[name]
	if family == nil {
		return 0, fmt.Errorf("no metric %q", name)
	}
	sum := 0.0
	for _, m := range family.Metric {
		v, err := sample(m)
		if err != nil {
			return 0, fmt.Errorf("metric %q: %w", name, err)
		}
		sum += v
	}
	return sum, nil
}

func sample(m *dto.Metric) (float64, error) {
	switch {
	case m.Gauge != nil:
		return m.Gauge.GetValue(), nil
	case m.Counter != nil:
		return m.Counter.GetValue(), nil
	case m.Untyped != nil:
		return m.Untyped.GetValue(), nil
	}
	return 0, errors.New("is a histogram or summary, a gauge or counter is accepted")
}
