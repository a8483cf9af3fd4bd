package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/nearcast/nearcast/healthmesh"
)

func newKeygen() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "keygen",
		Short:   "Make keys",
		Example: `  nearcast keygen mesh > mesh.key`,
		Args:    cobra.NoArgs,
		RunE:    showHelp,
	}
	var out string
	mesh := &cobra.Command{
		Use:   "mesh",
		Short: "Make a key for gossip: the same file goes to all nodes",
		Example: `  nearcast keygen mesh > mesh.key
  nearcast keygen mesh --out mesh.key`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key := healthmesh.GenerateKey()
			if out == "" {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), key)
				return err
			}
			return writeKey(out, key)
		},
	}
	mesh.Flags().StringVar(&out, "out", "", "file to write, readable by its owner alone; one that exists stays as it is")
	cmd.AddCommand(mesh)
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
