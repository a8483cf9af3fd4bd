package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nearcast/nearcast/dnsserver/admin"
	"github.com/nearcast/nearcast/healthmesh"
)

func newStatus() *cobra.Command {
	c := &client{}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell what a running director believes",
		Long: `Tell what a running director believes: each region and service with state, capacity, load, and the age and
source of the evidence, and the members of the mesh.`,
		Example: `  nearcast status -c nearcast.yaml
  nearcast status --server 127.0.0.1:8053 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s admin.Status
			if err := c.call(cmd.Context(), http.MethodGet, "/api/v1/status", nil, &s); err != nil {
				return err
			}
			return c.show(cmd.OutOrStdout(), s, func(w io.Writer) { printStatus(w, &s) })
		},
	}
	c.flags(cmd)
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
	return cmd
}

func printStatus(w io.Writer, s *admin.Status) {
	fmt.Fprintf(w, "director %s, generation %d\n", s.Node, s.Generation)
	for _, text := range s.Warnings {
		fmt.Fprintf(w, "warning: %s\n", text)
	}
	table(w, "REGION\tSTATE\tCAPACITY\tLOAD\tAGE\tSOURCE\tCAUSE", len(s.Regions), func(i int) string {
		r := s.Regions[i]
		load, age := "-", "-"
		if r.Load != nil {
			load = fmt.Sprintf("%.4g", *r.Load)
		}
		if r.LoadStale {
			load += " (stale)"
		}
		if r.AgeSeconds != nil {
			age = fmt.Sprintf("%.1fs", *r.AgeSeconds)
		}
		capacity := fmt.Sprintf("%g", r.Capacity)
		if r.Live > 0 && r.Live != r.Capacity {
			capacity = fmt.Sprintf("%.4g of %g", r.Live, r.Capacity)
		}
		source := r.Source
		if len(r.Agents) > 0 {
			source = strings.Join(r.Agents, ", ")
		}
		cause := r.Cause
		if until := r.OldAnswersUntil; until != nil && r.Order == nil && until.After(s.Time) {
			cause += "; old answers gone in " + countdown(until.Sub(s.Time))
		}
		if r.Suppressed > 0 {
			cause += fmt.Sprintf("; %d flips of endpoints suppressed", r.Suppressed)
		}
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s", r.Name, r.State, capacity, load, age, source, cause)
	})
	printOrders(w, s)
	for _, svc := range s.Services {
		fmt.Fprintf(w, "\nservice %s: %s, ttl %d\n", svc.Name, svc.Policy, svc.TTL)
		table(w, "  REGION\tSTATE\tWEIGHT\tADMITS\tENDPOINTS", len(svc.Regions), func(i int) string {
			r := svc.Regions[i]
			var ends []string
			for _, e := range r.Endpoints {
				text := e.Endpoint + " " + e.State
				if e.Reason != "" {
					text += " (" + e.Reason + ")"
				}
				ends = append(ends, text)
			}
			return fmt.Sprintf("  %s\t%s\t%g\t%.0f %%\t%s", r.Region, r.State, r.Weight, 100*r.Admit, strings.Join(ends, ", "))
		})
	}
	fmt.Fprintln(w)
	table(w, "MEMBER\tROLE\tREGION\tADDRESS", len(s.Members), func(i int) string {
		m := s.Members[i]
		return fmt.Sprintf("%s\t%s\t%s\t%s", m.Name, m.Role, m.Region, m.Addr)
	})
	fmt.Fprintln(w)
	table(w, "GEOGRAPHY\tTYPE\tDATE\tNETWORKS\tLOCATED", len(s.Geo), func(i int) string {
		g := s.Geo[i]
		return fmt.Sprintf("%s\t%s\t%s\t%d\t%.1f %%", g.Name, g.Type, g.Built.Format(time.DateOnly), g.Networks, 100*g.Located)
	})
}

func table(w io.Writer, head string, rows int, row func(int) string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, head)
	for i := range rows {
		fmt.Fprintln(t, row(i))
	}
	t.Flush()
}

// printOrders tells of the orders in force, if there are any: how far they have come, when they end, and when the last client can still hold
// an answer with a region that is taken out.
func printOrders(w io.Writer, s *admin.Status) {
	var rows []string
	add := func(o *admin.Order, what string) {
		if o == nil {
			return
		}
		ends, gone := "when taken back", "-"
		if o.Until != nil {
			ends = "in " + countdown(o.Until.Sub(s.Time))
		}
		if o.GoneAt != nil {
			gone = "gone"
			if left := o.GoneAt.Sub(s.Time); left > 0 {
				gone = "gone in " + countdown(left)
			}
		}
		by := o.By
		if o.Owner != "" {
			by = o.Owner + " at " + by
		}
		rows = append(rows, strings.Join([]string{cmp.Or(o.Region, "all"), what, ends, gone, by, o.Reason}, "\t"))
	}
	add(s.Freeze, "freeze")
	for _, r := range s.Regions {
		if r.Order != nil {
			what := r.Order.Kind
			if what == healthmesh.Drain {
				what = fmt.Sprintf("drain, %.0f %% done", 100*r.Drained)
			}
			add(r.Order, what)
		}
		if r.Shed != nil {
			add(r.Shed, fmt.Sprintf("shed %.4g %%", 100*r.Shed.Share))
		}
	}
	if len(rows) > 0 {
		fmt.Fprintln(w)
		table(w, "REGION\tORDER\tENDS\tOLD ANSWERS\tGIVEN BY\tREASON", len(rows), func(i int) string { return rows[i] })
	}
}

// countdown is a time left in whole seconds, at least one.
func countdown(d time.Duration) string { return max(d.Round(time.Second), time.Second).String() }
