package legacy

import (
	"fmt"
	"strings"

	"github.com/clustervision/luna/inventory"
)

// names gives every object of a list a name that is good here and no other has.
// 1.2 took any text, and under load or after a failure the same one twice (B1,
// B4). Whoever is first in the list keeps a good name.
func (c *converter) names(object string, old []string, report func(i int, now, why string)) []string {
	now := make([]string, len(old))
	taken := map[string]bool{}
	for i, name := range old {
		if inventory.CheckName(object, name) == nil && !taken[name] {
			now[i], taken[name] = name, true
		}
	}
	for i, name := range old {
		if now[i] != "" {
			continue
		}
		now[i] = unique(spell(object, name), taken)
		taken[now[i]] = true
		report(i, now[i], refused(object, name))
	}
	return now
}

// refused says why a name could not stay.
func refused(object, name string) string {
	switch {
	case inventory.CheckName(object, name) == nil:
		return "another one has that name too"
	case name == "":
		return "it had no name"
	case len(name) > inventory.MaxName:
		return fmt.Sprintf("a name has at most %d characters", inventory.MaxName)
	}
	return "a name has letters, digits, '.', '_' and '-', and begins with a letter or digit"
}

// unique gives the name, or the first of name-2, name-3, ... that is not taken.
func unique(name string, taken map[string]bool) string {
	try := name
	for n := 2; taken[try]; n++ {
		suffix := fmt.Sprintf("-%d", n)
		try = name[:min(len(name), inventory.MaxName-len(suffix))] + suffix
	}
	return try
}

// spell gives the nearest good name: "-" for every run of what is refused.
func spell(object, name string) string {
	var b strings.Builder
	for _, r := range name {
		good := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r)
		switch {
		case good:
			b.WriteRune(r)
		case !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	s := strings.TrimLeft(b.String(), "._-")
	s = strings.TrimRight(s[:min(len(s), inventory.MaxName)], "-")
	if s == "" {
		return object
	}
	return s
}

// renamed reports new names of the objects of a type.
func (c *converter) renamed(object string, old []string) []string {
	return c.names(object, old, func(i int, now, why string) {
		c.find(object, old[i], Adjusted, "it is '%s' here: %s", now, why)
	})
}
