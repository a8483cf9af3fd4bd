package dnsserver

import (
	"github.com/prometheus/client_golang/prometheus"
)

var (
	queriesDesc = prometheus.NewDesc("nearcast_dns_queries_total",
		"Queries that were answered, by the zone of the question (\"\" for none) and the reply's rcode.",
		[]string{"zone", "rcode"}, nil)
	typesDesc = prometheus.NewDesc("nearcast_dns_query_types_total",
		"The same queries over all zones, by the question's type, the reply's rcode and the transport.",
		[]string{"type", "rcode", "transport"}, nil)
	answersDesc = prometheus.NewDesc("nearcast_answers_total",
		"Regions in answers, by service and region.", []string{"service", "region"}, nil)
	failOpenDesc = prometheus.NewDesc("nearcast_fail_open_answers_total",
		"Answers with regions that stand in because none of the service can answer.", []string{"service"}, nil)
	droppedDesc = prometheus.NewDesc("nearcast_dns_dropped_total",
		"Packets and connections that got no reply, by cause.", []string{"cause"}, nil)
	limitedDesc = prometheus.NewDesc("nearcast_rate_limited_total",
		"Replies over their client network's rate, by class (positive, negative, referral, error) and what became of them (slipped, dropped).",
		[]string{"class", "action"}, nil)
	serialDesc = prometheus.NewDesc("nearcast_zone_serial",
		"The SOA's serial of each zone; a zone that has no records, since it was not transferred yet or expired, has none.", []string{"zone"}, nil)
	feedsDesc = prometheus.NewDesc("nearcast_zone_refreshes_total",
		"Zones with primaries: new versions taken (applied), and runs of failures in which none of the primaries could be asked or gave what can be served (failed).",
		[]string{"result"}, nil)
	connsDesc = prometheus.NewDesc("nearcast_tcp_connections", "TCP connections that are open.", nil, nil)
)

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{queriesDesc, typesDesc, answersDesc, failOpenDesc, droppedDesc, limitedDesc, serialDesc, feedsDesc, connsDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector: it adds the workers' meters up.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	sum := map[*prometheus.Desc]map[[3]string]uint64{queriesDesc: {}, typesDesc: {}, answersDesc: {}, failOpenDesc: {}}
	add := func(m *Meter) {
		m.Each(
			func(qtype, rcode string, t Transport, n uint64) {
				sum[typesDesc][[3]string{qtype, rcode, t.String()}] += n
			},
			func(zone, rcode string, n uint64) { sum[queriesDesc][[3]string{zone, rcode}] += n },
			func(service, region string, n uint64) { sum[answersDesc][[3]string{service, region}] += n },
			func(service string, n uint64) { sum[failOpenDesc][[3]string{service}] += n },
		)
	}
	for _, w := range s.udp {
		add(&w.meter)
	}
	for i := range s.tcpMeters {
		add(&s.tcpMeters[i].Meter)
	}
	labels := map[*prometheus.Desc]int{queriesDesc: 2, typesDesc: 3, answersDesc: 2, failOpenDesc: 1}
	for desc, counts := range sum {
		for l, n := range counts {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), l[:labels[desc]]...)
		}
	}
	for c := range causes {
		ch <- prometheus.MustNewConstMetric(droppedDesc, prometheus.CounterValue, float64(s.dropped[c].Load()), c.String())
	}
	for c := range classes {
		for a := slip; a < actions; a++ {
			ch <- prometheus.MustNewConstMetric(limitedDesc, prometheus.CounterValue, float64(s.limiter.counted[c][a].Load()), c.String(), a.String())
		}
	}
	for _, z := range s.o.Snapshot().Set.Zones {
		if z.Absent == "" {
			ch <- prometheus.MustNewConstMetric(serialDesc, prometheus.GaugeValue, float64(z.Serial()), z.Name)
		}
	}
	ch <- prometheus.MustNewConstMetric(feedsDesc, prometheus.CounterValue, float64(s.feeder.good.Load()), "applied")
	ch <- prometheus.MustNewConstMetric(feedsDesc, prometheus.CounterValue, float64(s.feeder.bad.Load()), "failed")
	conns := 0
	for _, l := range s.tcp {
		conns += l.open()
	}
	ch <- prometheus.MustNewConstMetric(connsDesc, prometheus.GaugeValue, float64(conns))
}
