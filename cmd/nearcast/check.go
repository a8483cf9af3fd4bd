package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

func newCheck() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "check -c FILE",
		Short: "Check a configuration file and all that it names",
		Long: `Check a configuration file and all that it names: zone files, databases, overrides, keys. It is the loader of
serve and agent, and reports all problems at once, each with its line, key, value and what is accepted.`,
		Example: `  nearcast check -c nearcast.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := source{path: path}.load(nil)
			if err != nil {
				return err
			}
			l.summary(cmd.OutOrStdout(), path)
			return nil
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "nearcast.yaml", "configuration file")
	return cmd
}

// summary says what there is, so that an operator sees what was understood.
func (l *loaded) summary(w io.Writer, path string) {
	fmt.Fprintf(w, "%s: good: %d zones, %d services, %d regions\n", path, len(l.Set.Zones), len(l.Set.Services), len(l.Set.Regions))
	for _, s := range l.table.Sources() {
		fmt.Fprintf(w, "geography: %s, %s of %s, %d networks, %.1f %% with a position\n",
			s.Name, s.Type, s.Built.Format(time.DateOnly), s.Networks, 100*s.Located)
	}
}
