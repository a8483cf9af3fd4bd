package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nearcast/nearcast/steer"
)

// Departures counts how long it took until a region that failed was in no answer any more.
type Departures struct{ *prometheus.HistogramVec }

// lagBuckets are in seconds: tens of milliseconds are the way of a report and a snapshot, 1 to 6 s that of a silence, more the guard's
// and the lost.
var lagBuckets = []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 6, 8, 10, 15, 30, 60, 300}

// NewDepartures counts none yet. Region and cause make up to four series of buckets for each region of the configuration, once it failed.
func NewDepartures() Departures {
	return Departures{prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "nearcast_time_to_last_wrong_answer_seconds",
		Help: "Regions that evidence took out of the answers, by cause (endpoint, unreachable, silence, leave): time from the fault, " +
			"as its first report states it, of a silence or leave from the last report before it, to this director's last answer that " +
			"still held the region; 0 if none did.",
		Buckets: lagBuckets,
	}, []string{"region", "cause"})}
}

// Add counts one.
func (d Departures) Add(one *steer.Departure) {
	d.WithLabelValues(one.Region, one.Cause).Observe(one.Lag.Seconds())
}
