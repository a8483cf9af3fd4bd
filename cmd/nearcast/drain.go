package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/nearcast/nearcast/dnsserver/admin"
	"github.com/nearcast/nearcast/healthmesh"
)

func newDrain() *cobra.Command {
	c := &client{}
	var length time.Duration
	var reason string
	cmd := &cobra.Command{
		Use:   "drain REGION",
		Short: "Take a region out of the answers, at every director",
		Long: `Take a region out of the answers, at every director and over restarts, until it is taken back with
"undrain" or the time is over. Clients that hold an old answer leave as its TTL ends.`,
		Example: `  nearcast drain us-east --for 2h --reason "kernel update"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := admin.OrderRequest{Region: args[0], Kind: healthmesh.Drain, Reason: reason}
			if cmd.Flags().Changed("for") {
				q.For = length.String()
			}
			var o healthmesh.Order
			if err := c.call(cmd.Context(), http.MethodPost, "/api/v1/orders", q, &o); err != nil {
				return err
			}
			until := "it is taken back: nearcast undrain " + o.Region
			if !o.Until.IsZero() {
				until = o.Until.Local().Format(time.DateTime)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is drained until %s\n", o.Region, until)
			return nil
		},
	}
	c.orderFlags(cmd)
	cmd.Flags().DurationVar(&length, "for", 0, "end by itself after this time (default: until taken back)")
	cmd.Flags().StringVar(&reason, "reason", "", "shown in status and explain")
	return cmd
}

func newUndrain() *cobra.Command {
	c := &client{}
	cmd := &cobra.Command{
		Use:     "undrain REGION",
		Short:   "Take a drain back, at every director",
		Long:    `Take a drain back, at every director: the region answers again as its health allows.`,
		Example: `  nearcast undrain us-east`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var o healthmesh.Order
			q := admin.OrderRequest{Region: args[0], Kind: healthmesh.None}
			if err := c.call(cmd.Context(), http.MethodPost, "/api/v1/orders", q, &o); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is no longer drained\n", o.Region)
			return nil
		},
	}
	c.orderFlags(cmd)
	return cmd
}
