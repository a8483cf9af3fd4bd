package main

import (
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/nearcast/nearcast/dnsserver/admin"
	"github.com/nearcast/nearcast/steer"
)

func newExplain() *cobra.Command {
	c := &client{}
	var from, qtype string
	cmd := &cobra.Command{
		Use:   "explain NAME --client IP",
		Short: "Tell how a running director answers a client, and why",
		Long: `Tell how a running director answers a name to a client, stage by stage: where the client is, what state
each region is in and what the guard makes of that, their order, the group that shares, whom it refuses, and the pick.`,
		Example: `  nearcast explain www.geo.example.com --client 198.51.100.7
  nearcast explain www.geo.example.com --client 2001:db8::/48 --type AAAA --json`,
		Args: arguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := admin.ParseClient(from); err != nil {
				return fmt.Errorf("--%w", err)
			}
			var e steer.Explanation
			path := "/api/v1/explain" + query("name", args[0], "type", qtype, "client", from)
			if err := c.call(cmd.Context(), http.MethodGet, path, nil, &e); err != nil {
				return err
			}
			return c.show(cmd.OutOrStdout(), e, func(w io.Writer) { printExplanation(w, &e) })
		},
	}
	c.flags(cmd)
	cmd.Flags().StringVar(&from, "client", "", "the client's address or network")
	cmd.Flags().StringVar(&qtype, "type", "A", "record type")
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
	cobra.CheckErr(cmd.MarkFlagRequired("client"))
	return cmd
}

func printExplanation(w io.Writer, e *steer.Explanation) {
	fmt.Fprintf(w, "%s %s for %s, generation %d\n", e.Name, e.Type, e.Client, e.Generation)
	fmt.Fprintf(w, "place     %s\n", placeText(e.Place))
	for _, s := range e.Stages {
		fmt.Fprintf(w, "%-9s %s\n", s.Name, s.Effect)
	}
	if len(e.Candidates) > 0 {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "\nREGION\tKM\tSTATE\tSHARE\tREASON")
		for _, c := range e.Candidates {
			km := "-"
			if c.DistanceKM != nil {
				km = fmt.Sprintf("%.0f", *c.DistanceKM)
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%.0f %%\t%s\n", c.Region, km, c.State, 100*c.Share, c.Reason)
		}
		t.Flush()
		fmt.Fprintln(w)
	}
	for _, a := range e.Answers {
		fmt.Fprintf(w, "answer    %s\n", a)
	}
	fmt.Fprintf(w, "scope     /%d: all of %s gets this answer\n", e.Scope, e.Network)
}

func placeText(p steer.Place) string {
	switch {
	case p.Override != "":
		return fmt.Sprintf("%s, by an override to region %s", p.Network, p.Override)
	case !p.Known:
		return "unknown to the database"
	}
	where := p.Country
	if p.Subdivision != "" {
		where = p.Subdivision + ", " + where
	}
	return fmt.Sprintf("%s (%.2f, %.2f), shared by %s", where, p.Latitude, p.Longitude, p.Network)
}
