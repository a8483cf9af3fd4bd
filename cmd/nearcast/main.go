// Command nearcast is an authoritative DNS server that answers each query with the healthy region closest to the client,
// and the agents that tell it which regions are healthy.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

func main() {
	if err := newRoot().Execute(); err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintln(os.Stderr, "nearcast: "+strings.TrimRight(line, "\n"))
		}
		os.Exit(1)
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "nearcast",
		Short: "Authoritative DNS that answers with the healthy region closest to the client",
		Long: `nearcast is an authoritative DNS server that answers each query with the healthy region closest to the client,
weighted by capacity. Agents in the regions gossip health and load to it.`,
		Example: `  nearcast demo
  nearcast check -c nearcast.yaml
  nearcast serve -c nearcast.yaml
  nearcast agent -c nearcast.yaml --region us-east`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newDemo(), newServe(), newAgent(), newCheck(), newExplain(), newStatus(), newDrain(), newUndrain(), newPin(), newShed(),
		newFreeze(), newUnfreeze(), newKeygen(), newKeyring(), newGeo(), newVersion())
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Example = "  nearcast completion bash > /etc/bash_completion.d/nearcast"
		}
	}
	return root
}

// arguments are as many as a verb's line names; the error repeats it.
func arguments(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		line, _, _ := strings.Cut(cmd.UseLine(), " [flags]")
		return fmt.Errorf("got %d arguments, want: %s", len(args), line)
	}
}

// showHelp is what a verb does that only has verbs below it. With it, a verb that is not among these is an error.
func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }
