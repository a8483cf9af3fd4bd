package geo

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// continents are the countries and territories of each continent (ISO 3166-1 alpha-2, and XK for Kosovo). Those
// in two are where most of their people are; the Caucasus and Turkey are in Asia, Cyprus and Russia in Europe.
var continents = map[string]string{
	"AF": "AO BF BI BJ BW CD CF CG CI CM CV DJ DZ EG EH ER ET GA GH GM GN GQ GW KE KM LR LS LY MA MG ML MR MU MW MZ NA NE NG RE RW " +
		"SC SD SH SL SN SO SS ST SZ TD TG TN TZ UG YT ZA ZM ZW",
	"AN": "AQ BV GS HM TF",
	"AS": "AE AF AM AZ BD BH BN BT CC CN CX GE HK ID IL IN IO IQ IR JO JP KG KH KP KR KW KZ LA LB LK MM MN MO MV MY NP OM PH PK PS QA " +
		"SA SG SY TH TJ TL TM TR TW UZ VN YE",
	"EU": "AD AL AT AX BA BE BG BY CH CY CZ DE DK EE ES FI FO FR GB GG GI GR HR HU IE IM IS IT JE LI LT LU LV MC MD ME MK MT NL NO PL " +
		"PT RO RS RU SE SI SJ SK SM UA VA XK",
	"NA": "AG AI AW BB BL BM BQ BS BZ CA CR CU CW DM DO GD GL GP GT HN HT JM KN KY LC MF MQ MS MX NI PA PM PR SV SX TC TT US VC VG VI",
	"OC": "AS AU CK FJ FM GU KI MH MP NC NF NR NU NZ PF PG PN PW SB TK TO TV UM VU WF WS",
	"SA": "AR BO BR CL CO EC FK GF GY PE PY SR UY VE",
}

var continentByCountry = sync.OnceValue(func() map[string]string {
	m := map[string]string{}
	for continent, countries := range continents {
		for c := range strings.FieldsSeq(countries) {
			m[c] = continent
		}
	}
	return m
})

// continentOf is the continent of a country, "" if it is not known.
func continentOf(country string) string { return continentByCountry()[country] }

// centresCSV has lines "country,latitude,longitude": where a country's people are on average, from GeoNames.
//
//go:embed data/centres.csv
var centresCSV string

var centres = sync.OnceValue(func() map[string]Point {
	m := map[string]Point{}
	for line := range strings.Lines(centresCSV) {
		f := strings.Split(strings.TrimSpace(line), ",")
		lat, errLat := strconv.ParseFloat(f[1], 64)
		lon, errLon := strconv.ParseFloat(f[2], 64)
		if errLat != nil || errLon != nil {
			panic(fmt.Sprintf("geo: embedded centre %q", line))
		}
		m[f[0]] = Point{lat, lon}
	}
	return m
})

// countryCentre is the population-weighted centre of a country.
func countryCentre(country string) (Point, bool) {
	p, ok := centres()[country]
	return p, ok
}
