package main

import (
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/nearcast/nearcast/geo"
)

func newVersion() *cobra.Command {
	var licenses bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Tell the version, and the licences of code and data",
		Example: `  nearcast version --licenses`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			printVersion(cmd.OutOrStdout(), licenses)
			return nil
		},
	}
	cmd.Flags().BoolVar(&licenses, "licenses", false, "tell the licences and the modules too")
	return cmd
}

func printVersion(w io.Writer, licenses bool) {
	version, revision, goVersion := "unknown", "", ""
	info, ok := debug.ReadBuildInfo()
	if ok {
		version, goVersion = info.Main.Version, info.GoVersion
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = " " + s.Value
			}
		}
	}
	fmt.Fprintf(w, "nearcast %s%s %s\n", version, revision, goVersion)
	if !licenses {
		return
	}
	fmt.Fprintf(w, "\nCode: Apache-2.0.\nEmbedded geographic data, in LICENSE-DATA: %s\n\nModules, each under its own licence:\n", geo.DataLicense)
	if ok {
		for _, m := range info.Deps {
			fmt.Fprintf(w, "  %s %s\n", m.Path, m.Version)
		}
	}
}
