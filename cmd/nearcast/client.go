package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nearcast/nearcast/dnsserver/admin"
)

const (
	defaultAdmin  = "127.0.0.1:8053"
	clientTimeout = 10 * time.Second // above the director's own bound for an order
	maxReply      = 64 << 20         // a status of 10,000 services is some MiB
)

// client speaks to a running director.
type client struct {
	config, server, tokenFile string
	json                      bool
}

func (c *client) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&c.config, "config", "c", "", "configuration file, for the director's admin address")
	cmd.Flags().StringVar(&c.server, "server", "", "the director's admin address (default "+defaultAdmin+")")
	cmd.MarkFlagsMutuallyExclusive("config", "server")
}

func (c *client) orderFlags(cmd *cobra.Command) {
	c.flags(cmd)
	cmd.Flags().StringVar(&c.tokenFile, "token-file", "", "file with the token for a director that is not on this host")
}

// addr is the admin address of the director that is spoken to.
func (c *client) addr() (addr, tokenFile string, err error) {
	if c.server != "" {
		return c.server, c.tokenFile, nil
	}
	if c.config == "" {
		return defaultAdmin, c.tokenFile, nil
	}
	cfg, err := readConfig(c.config)
	if err != nil {
		return "", "", err
	}
	tokenFile = c.tokenFile
	if tokenFile == "" {
		tokenFile = cfg.AdminTokenFile
	}
	return cfg.adminAddr(), tokenFile, nil
}

// call sends one request and decodes the answer into out.
func (c *client) call(ctx context.Context, method, path string, body, out any) error {
	addr, tokenFile, err := c.addr()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	var send bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&send).Encode(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, &send)
	if err != nil {
		return fmt.Errorf("%q is not an address such as %s: %w", addr, defaultAdmin, err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	if tokenFile != "" {
		token, err := os.ReadFile(tokenFile)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("no director answers at %s: %w", addr, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return fmt.Errorf("the answer of %s ends early: %w", addr, err)
	}
	if resp.StatusCode != http.StatusOK {
		var f admin.Failure
		if json.Unmarshal(data, &f) != nil || f.Error == "" {
			f.Error = resp.Status
		}
		return fmt.Errorf("%s: %s", addr, f.Error)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s is not a director of this version: %w", addr, err)
	}
	return nil
}

// show prints v as JSON, or as text makes it.
func (c *client) show(w io.Writer, v any, text func(io.Writer)) error {
	if !c.json {
		text(w)
		return nil
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func query(pairs ...string) string {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return "?" + q.Encode()
}
