package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/nearcast/nearcast/dnsserver"
	"github.com/nearcast/nearcast/healthmesh"
)

func newKeygen() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "keygen",
		Short:   "Make keys",
		Example: "  nearcast keygen mesh > mesh.key\n  nearcast keygen cookies > cookies.key",
		Args:    cobra.NoArgs,
		RunE:    showHelp,
	}
	cmd.AddCommand(
		newKeygenOf("mesh", "Make a key for gossip: the same file goes to all nodes", healthmesh.GenerateKey),
		newKeygenAgent(),
		newKeygenOf("tsig", "Make a secret that signs messages between two servers (TSIG)", dnsserver.GenerateTSIGKey),
		newKeygenOf("cookies", "Make a secret for DNS cookies: the same file goes to all directors", dnsserver.GenerateCookieKey),
	)
	return cmd
}

// newKeygenOf makes keys of one kind.
func newKeygenOf(kind, short string, generate func() string) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:     kind,
		Short:   short,
		Example: fmt.Sprintf("  nearcast keygen %[1]s > %[1]s.key\n  nearcast keygen %[1]s --out %[1]s.key", kind),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), generate())
				return err
			}
			return writeKey(out, generate())
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write, readable by its owner alone; one that exists stays as it is")
	return cmd
}

// newKeygenAgent makes identities.
func newKeygenAgent() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:     "agent",
		Aliases: []string{"director"},
		Short:   "Make the key that an agent signs its reports with, or a director its orders",
		Long: `Make the key that an agent signs its reports with (mesh.identity), or a director its orders: one for each node. Printed
is the public key, for agent_keys of the agent's region or for mesh.directors; of a file that exists, its own.`,
		Example: "  nearcast keygen agent --out node.key",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := writeKey(out, healthmesh.GenerateIdentity()); err != nil {
				return err
			}
			i, err := healthmesh.LoadIdentity(out)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), i.Public())
			return err
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write, readable by its owner alone; one that exists stays as it is")
	cobra.CheckErr(cmd.MarkFlagRequired("out"))
	return cmd
}

// writeKey makes the key's file; one that exists is in use and stays.
func writeKey(path, key string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, key)
	return errors.Join(err, f.Close())
}
