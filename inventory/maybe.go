package inventory

import (
	"bytes"
	"encoding/json"
)

// Maybe is a value that a document may leave out: what is left out stays as it
// is. Given and null is something else: it unsets.
type Maybe[T any] struct {
	Given bool
	Value T
}

// Given gives a Maybe that has the value.
func Given[T any](v T) Maybe[T] { return Maybe[T]{Given: true, Value: v} }

// IsZero lets encoding/json leave out what is not given ("omitzero").
func (m Maybe[T]) IsZero() bool { return !m.Given }

// MarshalJSON writes the value alone.
func (m Maybe[T]) MarshalJSON() ([]byte, error) { return json.Marshal(m.Value) }

// UnmarshalJSON reads the value alone; null is given too. A field that the
// value does not have is refused: a slip in a document must not unset things.
func (m *Maybe[T]) UnmarshalJSON(b []byte) error {
	m.Given = true
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	return dec.Decode(&m.Value)
}

// Into stores the value in the field where it is given.
func (m Maybe[T]) Into(field *T) {
	if m.Given {
		*field = m.Value
	}
}
