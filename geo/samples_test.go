package geo

import (
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oschwald/geoip2-golang/v2"
	"github.com/oschwald/maxminddb-golang/v2"
)

// samples is a folder of vendors' sample databases, good and bad; they are not part of the project.
const samples = "NEARCAST_GEO_SAMPLES"

// Every sample is read, or refused with one problem; what MaxMind's own reader says of a City database is what Locate gives.
func TestSamples(t *testing.T) {
	dir := os.Getenv(samples)
	if dir == "" {
		t.Skip("no vendors' samples here: " + samples + " names their folder")
	}
	read, refused := 0, 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".mmdb" {
			return err
		}
		table, problems := load(Config{Database: []string{path}}, "", nil, nil)
		switch {
		case table == nil && len(problems) == 1:
			refused++
			t.Logf("refused: %s", problems[0])
		case table == nil || problems != nil:
			t.Errorf("%s: %v", path, problems)
		default:
			read++
			t.Logf("read: %+v", table.Sources())
			if strings.HasSuffix(path, "City-Test.mmdb") {
				compareCity(t, table, path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if read < 10 || refused < 10 {
		t.Errorf("%d read, %d refused", read, refused)
	}
}

func compareCity(t *testing.T, table *Table, path string) {
	city, err := geoip2.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer city.Close()
	all, err := maxminddb.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	for r := range all.Networks(maxminddb.SkipEmptyValues()) {
		addr := r.Prefix().Addr()
		want, err := city.City(addr)
		if err != nil {
			t.Fatal(err)
		}
		if r.Prefix().Bits() > 64 && addr.Is6() || want.Country.ISOCode == "" {
			continue
		}
		got, network := table.Locate(addr)
		if got.Country != want.Country.ISOCode || !network.Contains(addr) {
			t.Errorf("%s: %s in %s, want %s in %s", addr, got.Country, network, want.Country.ISOCode, r.Prefix())
		}
		if want.City.Names.English == "" && len(want.Subdivisions) == 0 || want.Location.Latitude == nil {
			continue // the country's centre
		}
		if math.Abs(got.Lat-*want.Location.Latitude) > 0.0051 || math.Abs(got.Lon-*want.Location.Longitude) > 0.0051 {
			t.Errorf("%s: %v, want %v %v", addr, got.Point, *want.Location.Latitude, *want.Location.Longitude)
		}
	}
}
