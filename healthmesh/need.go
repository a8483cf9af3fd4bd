package healthmesh

import (
	"encoding"
	"errors"
	"strconv"
)

// Need is how many of an endpoint's checks must succeed; 0: all.
type Need int

// maxNeed is more than a service can have checks.
const maxNeed = 99

var _ encoding.TextUnmarshaler = (*Need)(nil)

// UnmarshalText reads "all", "any" or a whole number above 0. Its error says what is accepted.
func (n *Need) UnmarshalText(text []byte) error {
	switch string(text) {
	case "all":
		*n = 0
		return nil
	case "any":
		*n = 1
		return nil
	}
	i, err := strconv.Atoi(string(text))
	if err != nil || i < 1 || i > maxNeed {
		return errors.New("all, any, or how many checks")
	}
	*n = Need(i)
	return nil
}
