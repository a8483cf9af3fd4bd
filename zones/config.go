package zones

// Reporter takes one problem of a configuration: the key path at which it stands
// ("zones[0].services[1].ttl"), the value found there, and what is accepted.
// Checking goes on after a report, so that an operator sees all problems at once.
type Reporter = func(key string, value any, accepted string)

// RegionConfig is one region as the configuration file states it.
type RegionConfig struct {
	// Name of the region, unique in the file: 1 to 63 of a-z, 0-9 and "-".
	Name string `mapstructure:"name"`
	// Location is [latitude, longitude] in degrees, -90 to 90 and -180 to 180.
	Location []float64 `mapstructure:"location"`
	// Capacity is what the region carries, above 0, in any unit that all regions
	// share; load is reported in the same unit. Shares are in proportion to it.
	Capacity float64 `mapstructure:"capacity"`
	// MaxCapacity bounds the live capacity that is believed of the region's backends when they scale out, at least capacity.
	// Optional, default: capacity.
	MaxCapacity *float64 `mapstructure:"max_capacity"`
	// BiasKM is subtracted from every client's distance to this region, in km,
	// -20000 to 20000. Optional, default 0: distance alone.
	BiasKM float64 `mapstructure:"bias_km"`
}

// ZoneConfig is one zone as the configuration file states it.
type ZoneConfig struct {
	// Name of the zone, a domain name.
	Name string `mapstructure:"name"`
	// File is the zone file (RFC 1035, section 5) with the SOA, the NS and every
	// record that is not steered. Relative to the configuration file; $INCLUDE
	// reaches only files in the zone file's folder.
	//
	// Of a zone with primaries it is the copy of theirs, which the director writes.
	File string `mapstructure:"file"`
	// Fed: the zone has primaries, so its file may be missing, or too old. Not a key of its own.
	Fed bool `mapstructure:"-"`
	// Content is what File held when it was read: nil has it read. Not a key of its own.
	Content *Content `mapstructure:"-"`
	// Catalog: the zone is a list of zones (RFC 9432). Not a key of its own.
	Catalog bool `mapstructure:"-"`
	// Services are the steered names of the zone. Optional: a zone without
	// services is served as its file states it.
	Services []ServiceConfig `mapstructure:"-"`
}

// ServiceConfig is one steered name as the configuration file states it.
//
// A service of addresses owns the A and AAAA records of its name: the zone file has
// none there, and no CNAME; what else it has there is served as it stands. A service
// of CNAMEs owns its name: the zone file has no record there, so it is not the apex.
// No service is at or below a delegation.
type ServiceConfig struct {
	// Name relative to the zone, of letters, digits, "-", "_" and "/"; "@" is the
	// apex, "*.apps" a wildcard.
	Name string `mapstructure:"name"`
	// TTL of the answers in seconds, 1 to 86400. Optional, default 30.
	TTL int `mapstructure:"ttl"`
	// Steer is the policy: nearest, failover or weighted. Optional, default nearest.
	Steer string `mapstructure:"steer"`
	// BandKM: regions at most this much farther than the nearest share its clients
	// by capacity, in km, 0 to 20000. Optional, default 250. Only for nearest.
	BandKM *float64 `mapstructure:"band_km"`
	// Answers is the number of regions in one answer, 1 to 8; above 1, no two of them may have
	// an address in common. Optional, default 1.
	Answers int `mapstructure:"answers"`
	// ECS says whether client subnets (RFC 7871) choose the region: on or off. Off, the resolver's own address does, and
	// one answer holds for all of its clients. Optional, default on.
	ECS string `mapstructure:"ecs"`
	// MaxAutomaticRemoval is how much of the service's weight health checks and silence may take out of its answers, in
	// percent, 1 to 100; the first region to fail always leaves. What fails after that is held in the answers, all its
	// addresses with a TTL of at most 10 s, until others recover or an operator decides by drain or pin-down: a fault seen
	// nearly everywhere is more likely one of seeing. IPv4 and IPv6 are judged apart. Optional, default 50; 100: no bound.
	MaxAutomaticRemoval int `mapstructure:"max_automatic_removal"`
	// MinActive is how many of the service's regions drains and pin-downs leave, 1 to the number of its regions; orders
	// beyond, by their time, have no effect on this service. Optional, default 1.
	MinActive int `mapstructure:"min_active"`
	// Checked: the service has a health check, so its endpoints are believed only by
	// evidence. Not a key of its own: set where the file has "check".
	Checked bool `mapstructure:"-"`
	// Regions that take the service's traffic, at least one; for failover in
	// the order of preference.
	Regions []MemberConfig `mapstructure:"regions"`
}

// MemberConfig is what one region has for one service. Either Addresses or CNAME.
type MemberConfig struct {
	// Region is the name of a region of this file.
	Region string `mapstructure:"region"`
	// Addresses are the endpoints, IPv4 or IPv6, at most 32.
	Addresses []string `mapstructure:"addresses"`
	// CNAME is the endpoint as a host name; all regions of a service have one then,
	// and the service is not at the apex.
	CNAME string `mapstructure:"cname"`
	// Weight replaces the region's capacity in this service's shares, above 0.
	// Optional, default: the region's capacity.
	Weight *float64 `mapstructure:"weight"`
}
