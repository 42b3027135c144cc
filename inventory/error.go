package inventory

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says what class of refusal an [Error] is. It is meant for programs: it
// crosses the wire as this word and decides the exit code of the CLI.
type Kind string

// The closed list of kinds.
const (
	KindNotFound    Kind = "not-found"   // the named object does not exist
	KindExists      Kind = "exists"      // an object of that name exists already
	KindInvalid     Kind = "invalid"     // the request is malformed or a value is bad
	KindInUse       Kind = "in-use"      // other objects depend on the object
	KindRefused     Kind = "refused"     // well-formed, but the state does not allow it
	KindDenied      Kind = "denied"      // the caller may not do this
	KindUnavailable Kind = "unavailable" // no quorum, no leader or not a member yet: try again or repair the mesh
	KindUnknown     Kind = "unknown"     // the outcome could not be learned: it may or may not have happened
	KindInternal    Kind = "internal"    // a fault on the head: disk, missing tool, bug
)

// Error is a refusal as an administrator reads it. It is a result of a
// command, replicated and sent over the wire intact, never a failure of Apply.
type Error struct {
	Kind   Kind     `json:"kind"`
	Object string   `json:"object,omitempty"` // type of the object: "node", "network", ...
	Name   string   `json:"name,omitempty"`   // its name, where there is one
	Text   string   `json:"message"`          // what failed and what to do, one line
	Users  []string `json:"users,omitempty"`  // for KindInUse: who depends on it, as "[type/name]"
}

func (e *Error) Error() string {
	if len(e.Users) == 0 {
		return e.Text
	}
	return e.Text + " " + strings.Join(e.Users, " ")
}

// Is lets errors.Is(err, &Error{Kind: k}) match on the kind alone.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Text == "" && t.Kind == e.Kind
}

// The sentinels, one per kind that callers ask for: errors.Is(err, ErrNotFound).
var (
	ErrNotFound    = &Error{Kind: KindNotFound}
	ErrExists      = &Error{Kind: KindExists}
	ErrInvalid     = &Error{Kind: KindInvalid}
	ErrInUse       = &Error{Kind: KindInUse}
	ErrRefused     = &Error{Kind: KindRefused}
	ErrDenied      = &Error{Kind: KindDenied}
	ErrUnavailable = &Error{Kind: KindUnavailable}
	ErrUnknown     = &Error{Kind: KindUnknown}
)

// AsError gives the *Error inside err, or wraps err as an internal one.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Kind: KindInternal, Text: err.Error()}
}

// Errorf makes a refusal about the object of the given type and name.
func Errorf(kind Kind, object, name, format string, args ...any) *Error {
	return &Error{Kind: kind, Object: object, Name: name, Text: fmt.Sprintf(format, args...)}
}

// NotFound is the refusal for a missing object, in the words of Luna 1.2.
func NotFound(object, name string) *Error {
	return Errorf(KindNotFound, object, name, "Object '%s' of type '%s' does not exist", name, object)
}

// Exists is the refusal to create what is there already, in the words of Luna 1.2.
func Exists(object, name string) *Error {
	return Errorf(KindExists, object, name, "'%s' is already created", name)
}

func invalid(object, name, format string, args ...any) error {
	return Errorf(KindInvalid, object, name, format, args...)
}
