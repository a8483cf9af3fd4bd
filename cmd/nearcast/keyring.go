package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nearcast/nearcast/dnsserver/admin"
	"github.com/nearcast/nearcast/healthmesh"
)

func newKeyring() *cobra.Command {
	c := &client{}
	cmd := &cobra.Command{
		Use:   "keyring",
		Short: "Change the gossip keys of all nodes, without a restart",
		Long: `Change the gossip keys of all nodes, without a restart: add a new key, use it, remove the old one. Each node that is a
member takes the change up and keeps it over restarts; one that is away longer than the whole change needs the new key in its key
file. To use or remove a key is refused while a member has not taken up the last change. New nodes need the new key in their key files.`,
		Example: `  nearcast keygen mesh --out new.key
  nearcast keyring add new.key
  nearcast keyring use new.key
  nearcast keyring list
  nearcast keyring remove old.key`,
		Args: cobra.NoArgs,
		RunE: showHelp,
	}
	cmd.AddCommand(
		newKeyringList(c),
		newKeyringChange(c, healthmesh.KeyAdd, "Let all nodes decrypt with a key"),
		newKeyringChange(c, healthmesh.KeyUse, "Let all nodes encrypt with a key that they have"),
		newKeyringChange(c, healthmesh.KeyRemove, "Let no node decrypt with a key any more"),
	)
	return cmd
}

func newKeyringList(c *client) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the fingerprints of the keys, and the members that have others",
		Example: "  nearcast keyring list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var ring healthmesh.Keyring
			if err := c.call(cmd.Context(), http.MethodGet, "/api/v1/keyring", nil, &ring); err != nil {
				return err
			}
			showKeyring(cmd, ring)
			return nil
		},
	}
	c.flags(cmd)
	return cmd
}

func newKeyringChange(c *client, change, short string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     change + " FILE|FINGERPRINT",
		Short:   short,
		Example: fmt.Sprintf("  nearcast keyring %s new.key", change),
		Args:    arguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := readKey(args[0])
			if err != nil {
				return err
			}
			var ring healthmesh.Keyring
			if err := c.call(cmd.Context(), http.MethodPost, "/api/v1/keyring", admin.KeyringRequest{Change: change, Key: key}, &ring); err != nil {
				return err
			}
			showKeyring(cmd, ring)
			return nil
		},
	}
	if change == healthmesh.KeyAdd {
		cmd.Use = change + " FILE"
	}
	c.orderFlags(cmd)
	return cmd
}

// readKey is the key of a file that has one, or the argument itself, a fingerprint.
func readKey(arg string) (string, error) {
	text, err := os.ReadFile(arg)
	if errors.Is(err, fs.ErrNotExist) && len(arg) == fingerprintDigits {
		return arg, nil
	}
	if err != nil {
		return "", err
	}
	key := strings.TrimSpace(string(text))
	if strings.Contains(key, "\n") {
		return "", fmt.Errorf("%s has several keys, a file with one is accepted", arg)
	}
	return key, nil
}

const fingerprintDigits = 16

func showKeyring(cmd *cobra.Command, ring healthmesh.Keyring) {
	w := cmd.OutOrStdout()
	for i, k := range ring.Keys {
		use := "decrypts"
		if i == 0 {
			use = "encrypts"
		}
		fmt.Fprintf(w, "%s  %s\n", k, use)
	}
	if len(ring.Behind) == 0 {
		fmt.Fprintln(w, "all members have these keys")
		return
	}
	fmt.Fprintf(w, "%d members have not taken them up yet: %s\n", len(ring.Behind), strings.Join(ring.Behind, ", "))
}
