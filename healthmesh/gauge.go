package healthmesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"time"
)

const (
	maxLoadBody = 8 << 20         // bytes of an answer: a large exposition has a few MiB
	loadTimeout = 2 * time.Second // of one reading
)

// A gauge reads the load once, in the unit of capacity, finite and not negative. It is used by one goroutine at a time.
type gauge func(context.Context) (float64, error)

// newGauge makes the gauge that c states, of a region with that capacity; done ends what it keeps open.
func newGauge(c LoadConfig, capacity float64) (g gauge, done func()) {
	raw, done := hostGauge(c.Type, capacity), func() {}
	if !c.onHost() {
		raw, done = answerGauge(c)
	}
	return func(ctx context.Context) (float64, error) {
		ctx, cancel := context.WithTimeout(ctx, loadTimeout)
		defer cancel()
		load, err := raw(ctx)
		if err != nil {
			return 0, err
		}
		load = c.scale(load)
		if math.IsNaN(load) || math.IsInf(load, 0) {
			return 0, fmt.Errorf("load is %v", load)
		}
		return max(load, 0), nil
	}, done
}

// answerGauge finds the load in what a source answers.
func answerGauge(c LoadConfig) (g gauge, done func()) {
	fetch, done := newFetch(c)
	return func(ctx context.Context) (float64, error) {
		body, err := fetch(ctx)
		if err != nil {
			return 0, err
		}
		return c.parse(body)
	}, done
}

// parse finds the number in an answer.
func (c LoadConfig) parse(body []byte) (float64, error) {
	switch c.Type {
	case loadJSON:
		return findNumber(body, c.JSON)
	case loadPrometheus:
		return sumMetric(body, c.Metric, c.Labels)
	case loadHAProxy:
		return sumColumn(body, c.Metric, c.Proxy, c.Row)
	case loadNginx:
		return activeConnections(body)
	case loadEnvoy:
		return envoyStat(body, c.Metric)
	}
	return 0, fmt.Errorf("load of type %q", c.Type)
}

// newFetch makes the function that gets one answer of the source.
func newFetch(c LoadConfig) (fetch func(context.Context) ([]byte, error), done func()) {
	if path, ok := c.socket(); ok {
		return func(ctx context.Context) ([]byte, error) { return askSocket(ctx, path, "show stat\n") }, func() {}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil // the region's load is in the region
	client := &http.Client{Transport: transport}
	return func(ctx context.Context) ([]byte, error) { return get(ctx, client, c.URL) }, transport.CloseIdleConnections
}

func get(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", answer.StatusCode)
	}
	return readAnswer(answer.Body)
}

// askSocket sends a command to a Unix socket and reads until the other side closes.
func askSocket(ctx context.Context, path, command string) ([]byte, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return nil, err
		}
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })() // an agent that ends does not wait for the deadline
	if _, err := io.WriteString(conn, command); err != nil {
		return nil, err
	}
	return readAnswer(conn)
}

// readAnswer reads all of an answer; a part of it would give a part of the load.
func readAnswer(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxLoadBody+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxLoadBody:
		return nil, fmt.Errorf("answer has more than %d bytes", maxLoadBody)
	case len(body) == 0:
		return nil, errors.New("answer is empty")
	}
	return body, nil
}
