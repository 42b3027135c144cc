package failover

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// sample is times that were measured.
type sample []time.Duration

// add takes one down; what a correction made negative is nothing.
func (s *sample) add(d time.Duration) { *s = append(*s, max(d, 0)) }

// at gives the quantile: 0.5 is the median, 1 the worst.
func (s sample) at(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func (s sample) String() string {
	if len(s) == 0 {
		return "-\t-\t-\t0"
	}
	return fmt.Sprintf("%.2f\t%.2f\t%.2f\t%d", s.at(0.5).Seconds(), s.at(0.99).Seconds(), s.at(1).Seconds(), len(s))
}

// table prints the gaps of services, by how servers died.
func table(all map[string]map[string]*gaps) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "service\thow\tgap of\tp50 s\tp99 s\tmax s\tn\t")
	for _, service := range slices.Sorted(maps.Keys(all)) {
		for _, how := range slices.Sorted(maps.Keys(all[service])) {
			g := all[service][how]
			for _, row := range []struct {
				of string
				s  sample
			}{
				{"nodes and unknown", g.ours()},
				{"nodes", g.known},
				{"unknown", g.unknown},
				{"udhcpc", g.real},
				{"new machine", g.late},
				{"when it is back", g.back},
			} {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t\n", service, how, row.of, row.s)
			}
			if g.stood > 0 {
				fmt.Fprintf(w, "%s\t%s\tthe machine stood still\t\t\t%.2f\t\t\n", service, how, g.stood.Seconds())
			}
		}
	}
	_ = w.Flush() // into memory
	return text.String()
}

// times prints how long things took.
func times(all map[string]sample) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "until\tp50 s\tp99 s\tmax s\tn\t")
	for _, what := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(w, "%s\t%s\t\n", what, all[what])
	}
	_ = w.Flush() // into memory
	return text.String()
}
