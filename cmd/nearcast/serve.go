package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func newServe() *cobra.Command {
	var path string
	var over overrides
	cmd := &cobra.Command{
		Use:   "serve -c FILE",
		Short: "Run a director: answer DNS queries",
		Long: `Run a director: answer DNS queries for the zones of the configuration file with the healthy region
closest to the client. SIGHUP and a change of any file reload everything or nothing; SIGTERM ends it.`,
		Example: `  nearcast serve -c nearcast.yaml
  nearcast serve -c nearcast.yaml --dns 192.0.2.1:53 --mesh 192.0.2.1:7946`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signal.Ignore(syscall.SIGHUP) // until there is something to reload
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			log := newLog()
			from := source{path: path, over: over}
			if _, err := from.confine("director", log); err != nil {
				return err
			}
			l, err := from.load(nil)
			if err != nil {
				return err
			}
			if err := l.forServe(); err != nil {
				return err
			}
			d := &director{
				source: from, name: over.node("director", l), state: stateDir(l.State, "director", l.Mesh.Listen), log: log, loaded: l, alone: true,
			}
			return d.run(ctx, func() {})
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "nearcast.yaml", "configuration file")
	cmd.Flags().StringSliceVar(&over.dns, "dns", nil, "addresses for DNS, instead of listen.dns")
	cmd.Flags().StringSliceVar(&over.tls, "tls", nil, "addresses for DNS over TLS, instead of listen.tls")
	cmd.Flags().StringVar(&over.admin, "admin", "", "address for the API and metrics, instead of listen.admin")
	over.flags(cmd)
	return cmd
}

// overrides are the flags that let one file serve several nodes of one host.
type overrides struct {
	dns, tls                 []string
	admin, mesh, state, name string
}

func (o *overrides) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.mesh, "mesh", "", "address for gossip, instead of mesh.listen")
	cmd.Flags().StringVar(&o.state, "state", "", "state folder, instead of state")
	cmd.Flags().StringVar(&o.name, "name", "", "name in the mesh (default: role, host and gossip port)")
}

// apply replaces what the flags name.
func (o *overrides) apply(c *Config) {
	if o.dns != nil {
		c.Listen.DNS = o.dns
	}
	if o.tls != nil {
		c.Listen.TLS = o.tls
	}
	set := func(to *string, from string) {
		if from != "" {
			*to = from
		}
	}
	set(&c.Listen.Admin, o.admin)
	set(&c.Mesh.Listen, o.mesh)
	set(&c.State, o.state)
}

func (o *overrides) node(role string, l *loaded) string {
	if o.name != "" {
		return o.name
	}
	return nodeName(role, l.Mesh.Listen)
}

// untilSignal ends with SIGINT or SIGTERM; a second one kills.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

func newLog() *slog.Logger { return slog.New(slog.NewTextHandler(os.Stderr, nil)) }
