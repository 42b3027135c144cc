package legacy

import (
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The Python of 1.2 and the tools between it and a dump do not agree on types:
// a port is a string after "init" and a number after "change", an offset is an
// int32, an int64, a double (mongoexport) or a decimal string (IPv6), and what
// is unset is null or missing. The types in this file take all of that.

// Text is a string, or unset. Unset and empty are two things: show printed "-"
// for the one and nothing for the other.
type Text struct {
	Set   bool
	Value string
}

// UnmarshalBSONValue implements bson.ValueUnmarshaler.
func (t *Text) UnmarshalBSONValue(typ byte, data []byte) error {
	v := bson.RawValue{Type: bson.Type(typ), Value: data}
	switch v.Type {
	case bson.TypeNull, bson.TypeUndefined:
		*t = Text{}
		return nil
	case bson.TypeString:
		s, ok := v.StringValueOK()
		if !ok {
			return errCut(v.Type)
		}
		*t = Text{Set: true, Value: s}
		return nil
	case bson.TypeInt32, bson.TypeInt64, bson.TypeDouble:
		var n Number
		if err := n.UnmarshalBSONValue(typ, data); err != nil {
			return err
		}
		*t = Text{Set: true, Value: n.String()}
		return nil
	}
	return fmt.Errorf("a %s stands where a text should", v.Type)
}

// Number is a whole number of any size, or unset where Int is nil.
type Number struct{ Int *big.Int }

// String gives the number in decimal, "" where it is unset.
func (n Number) String() string {
	if n.Int == nil {
		return ""
	}
	return n.Int.String()
}

// Or gives the number as an int, or the other one where it is unset or larger
// than any setting of 1.2 can be.
func (n Number) Or(other int) int {
	if n.Int == nil || n.Int.BitLen() > 31 {
		return other
	}
	return int(n.Int.Int64())
}

// UnmarshalBSONValue implements bson.ValueUnmarshaler.
func (n *Number) UnmarshalBSONValue(typ byte, data []byte) error {
	v := bson.RawValue{Type: bson.Type(typ), Value: data}
	ok := true
	switch v.Type {
	case bson.TypeNull, bson.TypeUndefined:
		n.Int = nil
	case bson.TypeInt32:
		var i int32
		i, ok = v.Int32OK()
		n.Int = big.NewInt(int64(i))
	case bson.TypeInt64:
		var i int64
		i, ok = v.Int64OK()
		n.Int = big.NewInt(i)
	case bson.TypeDouble:
		var f float64
		f, ok = v.DoubleOK()
		if f != math.Trunc(f) || math.Abs(f) > 1<<53 {
			return fmt.Errorf("%v is not a whole number", f)
		}
		n.Int = big.NewInt(int64(f))
	case bson.TypeString:
		s, whole := v.StringValueOK()
		if !whole {
			return errCut(v.Type)
		}
		return n.parse(s)
	default:
		return fmt.Errorf("a %s stands where a number should", v.Type)
	}
	if !ok {
		return errCut(v.Type)
	}
	return nil
}

// parse reads decimal digits; an empty text is unset. No number of 1.2 has more
// than the 39 digits of an IPv6 address.
func (n *Number) parse(s string) error {
	n.Int = nil
	if s == "" {
		return nil
	}
	i, ok := new(big.Int), false
	if len(s) <= 40 {
		i, ok = i.SetString(s, 10)
	}
	if !ok {
		return fmt.Errorf("%.50q is not a whole number", s)
	}
	n.Int = i
	return nil
}

// Flag is yes or no, or unset.
type Flag struct{ Set, On bool }

// Or gives the flag, or what it is where it was never set.
func (f Flag) Or(unset bool) bool {
	if !f.Set {
		return unset
	}
	return f.On
}

// UnmarshalBSONValue implements bson.ValueUnmarshaler.
func (f *Flag) UnmarshalBSONValue(typ byte, data []byte) error {
	v := bson.RawValue{Type: bson.Type(typ), Value: data}
	switch v.Type {
	case bson.TypeNull, bson.TypeUndefined:
		*f = Flag{}
		return nil
	case bson.TypeBoolean:
		on, ok := v.BooleanOK()
		if !ok {
			return errCut(v.Type)
		}
		*f = Flag{Set: true, On: on}
		return nil
	case bson.TypeString:
		s, _ := v.StringValueOK()
		switch s {
		case "y", "yes":
			*f = Flag{Set: true, On: true}
			return nil
		case "n", "no":
			*f = Flag{Set: true}
			return nil
		}
		on, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("%.50q is neither yes nor no", s)
		}
		*f = Flag{Set: true, On: on}
		return nil
	}
	var n Number
	if err := n.UnmarshalBSONValue(typ, data); err != nil {
		return fmt.Errorf("a %s stands where yes or no should", v.Type)
	}
	*f = Flag{Set: true, On: n.Int.Sign() != 0}
	return nil
}

// Ref is a reference to an object: 1.2 wrote a DBRef, and in the cluster's
// dhcp_net the bare id as hex. The zero Ref is none.
type Ref struct {
	Collection string // "" where only an id was written
	ID         bson.ObjectID
}

// UnmarshalBSONValue implements bson.ValueUnmarshaler.
func (r *Ref) UnmarshalBSONValue(typ byte, data []byte) error {
	v := bson.RawValue{Type: bson.Type(typ), Value: data}
	*r = Ref{}
	ok := true
	switch v.Type {
	case bson.TypeNull, bson.TypeUndefined:
		return nil
	case bson.TypeObjectID:
		r.ID, ok = v.ObjectIDOK()
	case bson.TypeString:
		s, _ := v.StringValueOK()
		if s == "" {
			return nil
		}
		id, err := objectID(s)
		r.ID = id
		return err
	case bson.TypeEmbeddedDocument:
		var ref struct {
			Collection string        `bson:"$ref"`
			ID         bson.ObjectID `bson:"$id"`
		}
		if err := bson.Unmarshal(data, &ref); err != nil {
			return err
		}
		if ref.ID.IsZero() {
			return fmt.Errorf("the reference has no $id")
		}
		*r = Ref{Collection: ref.Collection, ID: ref.ID}
	default:
		return fmt.Errorf("a %s stands where a reference should", v.Type)
	}
	if !ok {
		return errCut(v.Type)
	}
	return nil
}

func objectID(s string) (id bson.ObjectID, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%.50q is no id of an object", s)
	}
	return bson.ObjectID(b), nil
}

func errCut(t bson.Type) error { return fmt.Errorf("the %s is cut short", t) }
