package legacy

import (
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// TestValues: the types in which a value of 1.2 may come, and those in which it
// may not.
func TestValues(t *testing.T) {
	id := bson.ObjectID{1, 2, 3}
	type values struct {
		Text   Text   `bson:"text"`
		Number Number `bson:"number"`
		Flag   Flag   `bson:"flag"`
		Ref    Ref    `bson:"ref"`
	}
	shown := func(v values) string {
		s := v.Number.String()
		if v.Text.Set {
			s += "'" + v.Text.Value + "'"
		}
		if v.Flag.Set {
			s += map[bool]string{true: "yes", false: "no"}[v.Flag.On]
		}
		if v.Ref != (Ref{}) {
			s += v.Ref.Collection + ":" + v.Ref.ID.Hex()
		}
		return s
	}
	for _, c := range []struct {
		field string
		value any
		want  string // the value, or the error
	}{
		{"text", "x", "'x'"},
		{"text", "", "''"},
		{"text", nil, ""},
		{"text", int32(7050), "'7050'"},
		{"text", 7050.0, "'7050'"},
		{"text", 0.5, "not a whole number"},
		{"text", bson.D{}, "embedded document stands where a text should"},
		{"number", int32(-1), "-1"},
		{"number", int64(1) << 40, "1099511627776"},
		{"number", 3.0, "3"},
		{"number", 3.5, "3.5 is not a whole number"},
		{"number", 1e300, "not a whole number"},
		{"number", "340282366920938463463374607431768211455", "340282366920938463463374607431768211455"},
		{"number", "", ""},
		{"number", "0x10", "not a whole number"},
		{"number", strings.Repeat("9", 1000), "not a whole number"},
		{"number", true, "boolean stands where a number should"},
		{"flag", true, "yes"},
		{"flag", false, "no"},
		{"flag", nil, ""},
		{"flag", int32(1), "yes"},
		{"flag", 0.0, "no"},
		{"flag", "y", "yes"},
		{"flag", "no", "no"},
		{"flag", "true", "yes"},
		{"flag", "maybe", "neither yes nor no"},
		{"flag", bson.A{}, "array stands where yes or no should"},
		{"ref", ref("node", id), "node:" + id.Hex()},
		{"ref", id, ":" + id.Hex()},
		{"ref", id.Hex(), ":" + id.Hex()},
		{"ref", "", ""},
		{"ref", "x", "no id of an object"},
		{"ref", nil, ""},
		{"ref", bson.D{{Key: "$ref", Value: "node"}}, "has no $id"},
		{"ref", bson.D{{Key: "$id", Value: 1}}, "error decoding key"},
		{"ref", 1.5, "double stands where a reference should"},
	} {
		b, err := bson.Marshal(bson.D{{Key: c.field, Value: c.value}})
		if err != nil {
			t.Fatal(err)
		}
		var v values
		err = bson.Unmarshal(b, &v)
		switch {
		case err == nil && shown(v) != c.want:
			t.Errorf("%s %v reads as %q, want %q", c.field, c.value, shown(v), c.want)
		case err != nil && !strings.Contains(err.Error(), c.want), err != nil && c.want == "":
			t.Errorf("%s %v: %v, want %q", c.field, c.value, err, c.want)
		}
	}
}

func TestSpell(t *testing.T) {
	for name, want := range map[string]string{
		"we ird;$(id)": "we-ird-id", "-x": "x", "...": "node", "": "node", "büro 1": "b-ro-1", "a\nb": "a-b", "node[1-3]": "node-1-3",
		strings.Repeat("a", 62) + "ü1": strings.Repeat("a", 62),
	} {
		if got := spell("node", name); got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
	}
	taken := map[string]bool{strings.Repeat("a", 63): true}
	if got := unique(strings.Repeat("a", 63), taken); got != strings.Repeat("a", 61)+"-2" {
		t.Errorf("a long name made unique is %q", got)
	}
	if got := printable("a\x1b[31m\xff" + strings.Repeat("b", 200)); got != "a?[31m?"+strings.Repeat("b", 93)+"..." {
		t.Errorf("for a terminal it is %q", got)
	}
}
