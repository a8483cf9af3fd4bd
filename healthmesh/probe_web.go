package healthmesh

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
)

const (
	maxBody   = 64 << 10 // bytes of an answer that a check looks at
	maxHeader = 64 << 10 // bytes of the header of an answer
)

// client makes the requests of http, https, http2 and grpc; nil for other kinds.
func (p *probe) client() *http.Client {
	var speaks http.Protocols
	switch p.check.Type {
	case checkHTTP, checkHTTPS:
		speaks.SetHTTP1(true)
	case checkHTTP2, checkGRPC:
		speaks.SetHTTP2(p.check.overTLS())
		speaks.SetUnencryptedHTTP2(!p.check.overTLS())
	default:
		return nil
	}
	return &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives:      true, // a kept connection would not see that nobody listens any more
			DisableCompression:     true, // the body is looked at as it comes
			MaxResponseHeaderBytes: maxHeader,
			TLSClientConfig:        p.tlsc,
			Protocols:              &speaks,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// request is what an address is asked for a path.
func (p *probe) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	u, err := url.ParseRequestURI(path)
	if err != nil {
		return nil, err
	}
	u.Scheme, u.Host = "http", p.addr
	if p.check.overTLS() {
		u.Scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	req.Host = p.host
	req.Header.Set("User-Agent", "nearcast-check")
	for _, h := range p.check.Headers {
		req.Header.Set(h.Name, h.Value)
	}
	return req, nil
}

func (p *probe) http(ctx context.Context) (outcome, error) {
	req, err := p.request(ctx, p.check.Method, p.check.Path, nil)
	if err != nil {
		return outcome{}, err
	}
	answer, err := p.web.Do(req)
	if err != nil {
		return outcome{}, err
	}
	defer answer.Body.Close()
	o, err := p.read(answer)
	return o.with(answer.TLS), err
}

// read judges an answer.
func (p *probe) read(answer *http.Response) (outcome, error) {
	switch {
	case p.check.Type == checkHTTP2 && answer.ProtoMajor != 2:
		return bad(reasonNotHTTP2, 0), nil
	case !p.check.accepts(answer.StatusCode):
		return bad(reasonStatus, uint16(answer.StatusCode)), nil
	case p.check.Body == "" && p.body == nil:
		return good(reasonStatus, uint16(answer.StatusCode)), nil
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxBody))
	if err != nil {
		return outcome{}, err
	}
	if !bytes.Contains(body, []byte(p.check.Body)) || p.body != nil && !p.body.Match(body) {
		return bad(reasonBody, 0), nil
	}
	return good(reasonStatus, uint16(answer.StatusCode)), nil
}
