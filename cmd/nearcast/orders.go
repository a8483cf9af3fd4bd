package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nearcast/nearcast/dnsserver/admin"
	"github.com/nearcast/nearcast/healthmesh"
)

// An orderVerb is a verb that gives an order to a director.
type orderVerb struct {
	client
	owner, reason string
	length, over  time.Duration
	force         bool
}

// ending is for verbs whose orders can end by themselves.
func (v *orderVerb) ending(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&v.length, "for", 0, "end by itself after this time, at most 8784h (default: until taken back)")
}

// forcing is for verbs that a director refuses where the other regions could not carry the clients.
func (v *orderVerb) forcing(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&v.force, "force", false, "even if the other regions cannot carry its clients")
}

// command makes the verb: order is what it gives for its arguments, said what it tells of it.
func (v *orderVerb) command(cmd *cobra.Command, order func(args []string) (admin.OrderRequest, error), said func(*admin.Order) string) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q, err := order(args)
		if err != nil {
			return err
		}
		o, err := v.give(cmd.Context(), cmd, q)
		if err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), said(o))
		if o.GoneAt != nil {
			fmt.Fprintf(cmd.OutOrStdout(), "the last client can hold an old answer until %s\n", o.GoneAt.Local().Format(time.DateTime))
		}
		if o.Note != "" {
			fmt.Fprintln(cmd.OutOrStdout(), o.Note)
		}
		return nil
	}
	v.orderFlags(cmd)
	cmd.Flags().StringVar(&v.owner, "owner", "", "who gives the order, shown in status and explain (default user@host)")
	cmd.Flags().StringVar(&v.reason, "reason", "", "shown in status and explain")
	return cmd
}

// give sends an order with what the flags say, and returns it as the director took it.
func (v *orderVerb) give(ctx context.Context, cmd *cobra.Command, q admin.OrderRequest) (*admin.Order, error) {
	q.Owner, q.Reason, q.Force = cmp.Or(v.owner, whoami()), v.reason, v.force
	for flag, to := range map[string]*string{"for": &q.For, "over": &q.Over} {
		if f := cmd.Flags().Lookup(flag); f != nil && f.Changed {
			*to = f.Value.String()
		}
	}
	o := new(admin.Order)
	return o, v.call(ctx, http.MethodPost, "/api/v1/orders", q, o)
}

// whoami is user@host, as far as these are known.
func whoami() string {
	name, host := "unknown", "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}

// lasting says how long an order holds.
func lasting(o *admin.Order, back string) string {
	if o.Until == nil {
		return "until it is taken back: nearcast " + strings.TrimSpace(back+" "+o.Region)
	}
	return "until " + o.Until.Local().Format(time.DateTime)
}

func newDrain() *cobra.Command {
	v := new(orderVerb)
	cmd := v.command(&cobra.Command{
		Use:   "drain REGION",
		Short: "Take a region out of the answers, at every director",
		Long: `Take a region out of the answers, at every director and over restarts, until it is taken back with "undrain" or the time
is over; with --over, its share falls to nothing by and by. Clients that hold an old answer leave as its TTL ends: printed is when
the last one can still hold one, and "status" counts it down. A drain, or pin, that is in force already gives way.

A drain that the other regions cannot carry is refused with the numbers; --force gives it all the same, but for the last
regions of a service (min_active).`,
		Example: `  nearcast drain us-east --for 2h --reason "kernel update"
  nearcast drain us-east --over 5m`,
		Args: arguments(1),
	}, func(args []string) (admin.OrderRequest, error) {
		return admin.OrderRequest{Region: args[0], Kind: healthmesh.Drain}, nil
	}, func(o *admin.Order) string {
		how := ""
		if o.Over != "" {
			how = " over " + o.Over
		}
		return fmt.Sprintf("%s is drained%s %s", o.Region, how, lasting(o, "undrain"))
	})
	v.ending(cmd)
	v.forcing(cmd)
	cmd.Flags().DurationVar(&v.over, "over", 0, "fall linearly in this time, at most 24h (default: at once)")
	return cmd
}

func newUndrain() *cobra.Command {
	v := new(orderVerb)
	return v.command(&cobra.Command{
		Use:     "undrain REGION",
		Aliases: []string{"unpin"},
		Short:   "Take a region's drain or pin back, at every director",
		Long: `Take a region's drain or pin back, at every director: it answers again as its health allows. Of drain and pin a region has
one at a time, so "undrain" and "unpin" are the same.`,
		Example: `  nearcast undrain us-east`,
		Args:    arguments(1),
	}, func(args []string) (admin.OrderRequest, error) {
		return admin.OrderRequest{Region: args[0], Kind: healthmesh.None}, nil
	}, func(o *admin.Order) string { return o.Region + " is neither drained nor pinned" })
}

func newPin() *cobra.Command {
	v := new(orderVerb)
	kinds := map[string]string{"up": healthmesh.PinUp, "down": healthmesh.PinDown}
	cmd := v.command(&cobra.Command{
		Use:   "pin REGION up|down",
		Short: "Make a region answer or not answer whatever its health is, at every director",
		Long: `Make a region answer (up) or not answer (down) whatever its health is, at every director and over restarts, until it is taken
back with "unpin" or the time is over. A pin, or drain, that is in force already gives way. A pin down is refused as a drain is.`,
		Example: `  nearcast pin us-east up --for 1h --reason "the check is wrong"`,
		Args:    arguments(2),
	}, func(args []string) (admin.OrderRequest, error) {
		kind, ok := kinds[args[1]]
		if !ok {
			return admin.OrderRequest{}, fmt.Errorf("pin: %q is neither up nor down", args[1])
		}
		return admin.OrderRequest{Region: args[0], Kind: kind}, nil
	}, func(o *admin.Order) string {
		return fmt.Sprintf("%s is pinned %s %s", o.Region, strings.TrimPrefix(o.Kind, "pin-"), lasting(o, "unpin"))
	})
	v.ending(cmd)
	v.forcing(cmd)
	return cmd
}

func newShed() *cobra.Command {
	v := new(orderVerb)
	cmd := v.command(&cobra.Command{
		Use:   "shed REGION PERCENT",
		Short: "Send a share of a region's clients to the next regions, at every director",
		Long: `Send a share of a region's clients to the next regions, at every director and over restarts, until it is taken back with a
share of 0 or the time is over. It holds beside a drain or a pin.`,
		Example: `  nearcast shed us-east 30% --for 1h
  nearcast shed us-east 0%`,
		Args: arguments(2),
	}, func(args []string) (admin.OrderRequest, error) {
		share, err := strconv.ParseFloat(strings.TrimSuffix(args[1], "%"), 64)
		if err != nil || !(share >= 0 && share <= 100) {
			return admin.OrderRequest{}, fmt.Errorf("shed: %q is not a percentage from 0%% to 100%%", args[1])
		}
		return admin.OrderRequest{Region: args[0], Kind: healthmesh.Shed, Share: share / 100}, nil
	}, func(o *admin.Order) string {
		if o.Share == 0 {
			return o.Region + " sheds nothing"
		}
		back := "shed " + o.Region + " 0%"
		if o.Until == nil {
			return fmt.Sprintf("%s sheds %.4g %% until it is taken back: nearcast %s", o.Region, 100*o.Share, back)
		}
		return fmt.Sprintf("%s sheds %.4g %% %s", o.Region, 100*o.Share, lasting(o, ""))
	})
	v.ending(cmd)
	v.forcing(cmd)
	return cmd
}

func newFreeze() *cobra.Command {
	v := new(orderVerb)
	cmd := v.command(&cobra.Command{
		Use:   "freeze",
		Short: "Hold the states of all regions and endpoints whatever the evidence, at every director",
		Long: `Hold the states of all regions and endpoints as each director sees them now, whatever the evidence, at every director and over
restarts, until it is taken back with "unfreeze" or the time is over. Loads and capacities still count, and so do orders: drain and
pin what has to move meanwhile.`,
		Example: `  nearcast freeze --for 30m --reason "the network between the regions is being moved"`,
		Args:    cobra.NoArgs,
	}, func([]string) (admin.OrderRequest, error) {
		return admin.OrderRequest{Kind: healthmesh.Freeze}, nil
	}, func(o *admin.Order) string { return "states are held " + lasting(o, "unfreeze") })
	v.ending(cmd)
	return cmd
}

func newUnfreeze() *cobra.Command {
	v := new(orderVerb)
	return v.command(&cobra.Command{
		Use:     "unfreeze",
		Short:   "Let evidence change states again, at every director",
		Long:    `Let evidence change states again, at every director.`,
		Example: `  nearcast unfreeze`,
		Args:    cobra.NoArgs,
	}, func([]string) (admin.OrderRequest, error) {
		return admin.OrderRequest{Kind: healthmesh.None}, nil
	}, func(*admin.Order) string { return "states follow the evidence" })
}
