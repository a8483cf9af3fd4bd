package steer

import (
	"math"
	"slices"
)

// How finely shares are integrated: with four cells a member and at least 512 they come out within 0.3 %.
const (
	leastCells  = 512
	memberCells = 4
)

// shares is the part of the client networks that each of the chain's members gets, by position in members, for explaining. They
// sum to 1.
func (c chain) shares(all []belief) []float64 {
	out, rest, lo := make([]float64, len(c.members)), 1.0, 0
	for _, hi := range c.ends {
		weights, admits := make([]float64, hi-lo), make([]float64, hi-lo)
		for i, j := range c.members[lo:hi] {
			weights[i], admits[i] = all[j].weight, c.admits(&all[j])
		}
		refused := rest
		for i, share := range groupShares(weights, admits) {
			out[lo+i] = rest * share
			refused -= out[lo+i]
		}
		rest, lo = max(refused, 0), hi
	}
	total := 0.0
	for _, j := range c.nearest() {
		total += all[j].weight
	}
	for i, j := range c.nearest() { // what all refuse is shared as if none did
		out[i] += rest * all[j].weight / total
	}
	return out
}

// groupShares is the part of the networks that each member of a group gets. A member takes a network with the probability of its
// admit, and then has the score s with the density w exp(-w s) (see rendezvous); it gets those for which no other that takes
// them has a lower one. In x = exp(-s / sum of w) that is, with p for w by their sum,
//
//	share of i = integral over x from 0 to 1 of admit_i d(x^p_i) x product over the others of (1 - admit_j + admit_j x^p_j)
//
// The cells of the integral are even in x^(1/n), of which the members' exponents are about 1.
func groupShares(weights, admits []float64) []float64 {
	n, total := len(weights), 0.0
	for _, w := range weights {
		total += w
	}
	shares, factors, below := make([]float64, n), make([]float64, n), make([]float64, n)
	if slices.Min(admits) == 1 {
		for i, w := range weights {
			shares[i] = w / total
		}
		return shares
	}
	cells := max(leastCells, memberCells*n)
	for cell := range cells {
		product, mid, to := 1.0, (float64(cell)+0.5)/float64(cells), float64(cell+1)/float64(cells)
		for i, w := range weights {
			factors[i] = 1 - admits[i] + admits[i]*math.Pow(mid, float64(n)*w/total)
			product *= factors[i]
		}
		for i, w := range weights {
			above := math.Pow(to, float64(n)*w/total)
			shares[i] += admits[i] * (above - below[i]) * product / factors[i]
			below[i] = above
		}
	}
	return shares
}
