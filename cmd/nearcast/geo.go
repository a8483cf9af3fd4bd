package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/nearcast/nearcast/geo"
)

func newGeo() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "geo",
		Short:   "Look into the geographic database",
		Example: `  nearcast geo lookup 128.112.0.1`,
		Args:    cobra.NoArgs,
		RunE:    showHelp,
	}
	cmd.AddCommand(newGeoLookup(), newGeoBuild(), newGeoCentres())
	return cmd
}

// A lookup is what geography knows of an address.
type lookup struct {
	Client      string       `json:"client"`
	Network     string       `json:"network"` // that shares the place
	Known       bool         `json:"known"`
	Latitude    float64      `json:"latitude"`
	Longitude   float64      `json:"longitude"`
	Country     string       `json:"country,omitempty"`
	Continent   string       `json:"continent,omitempty"`
	Subdivision string       `json:"subdivision,omitempty"`
	Override    string       `json:"override,omitempty"`
	Databases   []geo.Source `json:"databases"`
}

func newGeoLookup() *cobra.Command {
	var path string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "lookup IP",
		Short: "Tell where an address is, and which network shares the place",
		Example: `  nearcast geo lookup 128.112.0.1
  nearcast geo lookup 2001:db8::1 -c nearcast.yaml --json`,
		Args: arguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := netip.ParseAddr(args[0])
			if err != nil || addr.Zone() != "" {
				return fmt.Errorf("%q is not an IPv4 or IPv6 address", args[0])
			}
			t, err := loadTable(path)
			if err != nil {
				return err
			}
			c := geo.NewClient(addr, addr.BitLen())
			l, network := t.Locate(c.Addr)
			out := lookup{
				c.Addr.String(), network.String(), l.Known, l.Lat, l.Lon, l.Country, l.Continent, l.Subdivision, l.Region, t.Sources(),
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(out)
			}
			out.print(cmd.OutOrStdout())
			return nil
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "", "configuration file, for its databases and overrides (default: the embedded database)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// loadTable loads the databases of a configuration file, or the embedded one.
func loadTable(path string) (*geo.Table, error) {
	d, c := &document{file: path}, &Config{}
	if path != "" {
		var err error
		if d, c, err = parseConfig(path); err != nil {
			return nil, err
		}
	}
	t := geo.Load(c.Geo, filepath.Dir(path), c.sites(), nil, d.report)
	return t, d.err()
}

func (l lookup) print(w io.Writer) {
	switch {
	case l.Override != "":
		fmt.Fprintf(w, "place     region %s, by an override\n", l.Override)
	case l.Country == "":
		fmt.Fprintln(w, "place     unknown")
	case l.Subdivision == "":
		fmt.Fprintf(w, "place     %s, %s\n", l.Country, l.Continent)
	default:
		fmt.Fprintf(w, "place     %s, %s, %s\n", l.Subdivision, l.Country, l.Continent)
	}
	if l.Known {
		fmt.Fprintf(w, "position  %.2f, %.2f\n", l.Latitude, l.Longitude)
	}
	fmt.Fprintf(w, "network   %s\n", l.Network)
	for _, s := range l.Databases {
		fmt.Fprintf(w, "database  %s, %s of %s\n", s.Name, s.Type, s.Built.Format(time.DateOnly))
	}
}
