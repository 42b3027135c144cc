// Package bmc switches machines through their management controllers (BMCs),
// and has them identified, over IPMI 2.0 on the network (RMCP+, which ipmitool
// calls lanplus).
//
// Luna 1.2 started ipmitool for each machine, with the password on its command
// line, and printed success whatever came of it. Here a password stays in this
// process and appears in no error; and [Do] reports success for what the BMC has
// been seen to do: [Result] tells that apart from what it has merely accepted.
//
// The protocol is that of the IPMI specification, v2.0 revision 1.1; section
// numbers in comments are its.
package bmc

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	// DefaultPort is the UDP port of a [Target] that names none (§13.1.2).
	DefaultPort = 623
	// DefaultTimeout is how long [Do] takes at most where its context has no
	// deadline. It covers a BMC that is slow to answer and a machine that is slow
	// to power up.
	DefaultTimeout = 20 * time.Second

	maxUser     = 16 // bytes (§22.28)
	maxPassword = 20 // bytes (§22.30)
)

// Target is the BMC of one machine.
type Target struct {
	// Name is the machine's, for the caller; it is not sent and in no error.
	Name string
	// Addr is where the BMC listens; with port 0 it is [DefaultPort].
	Addr netip.AddrPort
	// User and Password are at most 16 and 20 bytes.
	User, Password string
}

func (t Target) validate() error {
	switch {
	case !t.Addr.Addr().IsValid():
		return errors.New("the BMC has no address")
	case len(t.User) > maxUser:
		return fmt.Errorf("the BMC's user name has %d characters, IPMI takes %d", len(t.User), maxUser)
	case len(t.Password) > maxPassword: // it would be cut in silence
		return fmt.Errorf("the password of the BMC's user %q has %d characters, IPMI takes %d", t.User, len(t.Password), maxPassword)
	}
	return nil
}

// Op is what a BMC is asked to do.
type Op string

// The operations, under the names of Luna 1.2's lpower.
const (
	Status     Op = "status"     // tell whether the machine is on
	On         Op = "on"         // switch it on
	Off        Op = "off"        // switch it off at once, without asking its operating system
	Reset      Op = "reset"      // restart it without switching it off
	Cycle      Op = "cycle"      // switch it off and on again
	Identify   Op = "identify"   // light its identification lamp for 255 seconds
	NoIdentify Op = "noidentify" // put that lamp out
)

var ops = []Op{Status, On, Off, Reset, Cycle, Identify, NoIdentify}

// ParseOp returns the operation of that name. The error lists them all.
func ParseOp(name string) (Op, error) {
	if !slices.Contains(ops, Op(name)) {
		names := make([]string, len(ops))
		for i, op := range ops {
			names[i] = string(op)
		}
		return "", fmt.Errorf("%q is not an operation: choose from %s", name, strings.Join(names, ", "))
	}
	return Op(name), nil
}

// Result is what came of an operation.
type Result struct {
	// Power is "on" or "off", as the BMC told it last; "" after [Identify] and
	// [NoIdentify], which do not ask.
	Power string
	// Verified is true if the BMC was seen to have done it, and false if it did
	// no more than accept it. It is true for [Status], [On] and [Off] always, for
	// [Cycle] if the machine was seen to be off in between, and for the others
	// never: a BMC does not tell that it has reset a machine.
	Verified bool
}

// The ways in which an operation fails that a caller may want to tell apart; the
// error's text says more.
var (
	// ErrNoAnswer says that nobody speaks IPMI at the address, or does no more.
	ErrNoAnswer = errors.New("the BMC does not answer")
	// ErrLogin says that user or password are wrong.
	ErrLogin = errors.New("the BMC refuses user and password")
	// ErrPrivilege says that the user is known and may not do this.
	ErrPrivilege = errors.New("the BMC does not let the user do this")
	// ErrCipher says that the BMC takes none of our cipher suites.
	ErrCipher = errors.New("the BMC takes neither cipher suite 17 nor 3")
)

// Do asks one BMC to do one thing, and waits until it is done as far as a BMC can
// tell (see [Result]). It ends with the context, and after [DefaultTimeout] if
// that has no deadline. The error names the address, and what to look at.
func Do(ctx context.Context, t Target, op Op) (Result, error) {
	if err := t.validate(); err != nil {
		return Result{}, err
	}
	if _, err := ParseOp(string(op)); err != nil {
		return Result{}, err
	}
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultTimeout)
		defer cancel()
	}
	s, err := dial(ctx, t, op)
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	switch op {
	case Status:
		power, err := s.power(ctx)
		return Result{Power: power, Verified: err == nil}, err
	case Identify, NoIdentify:
		return Result{}, s.command(ctx)
	case Reset:
		return s.reset(ctx)
	case Cycle:
		return s.cycle(ctx)
	}
	return s.turn(ctx)
}
