package bmc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/types"
)

const (
	identifyTime = 255 // seconds, the most that fit (§28.5)
	// cyclePatience is how long a machine is watched for the moment in which it
	// is off. BMCs keep it off for a second or more (§28.7), but not all of them
	// update their own state in time.
	cyclePatience = 6 * time.Second

	firstPause = 50 * time.Millisecond // between two looks at the power state
	maxPause   = 500 * time.Millisecond
)

// power tells the power state (§28.2).
func (s *session) power(ctx context.Context) (string, error) {
	var on bool
	err := s.try(ctx, func() error {
		status, err := s.client.GetChassisStatus(ctx)
		if err == nil {
			on = status.PowerIsOn
		}
		return err
	})
	switch {
	case err != nil:
		return "", err
	case on:
		return string(On), nil
	}
	return string(Off), nil
}

// command sends the operation (§28.3, §28.5).
func (s *session) command(ctx context.Context) error {
	return s.try(ctx, func() (err error) {
		switch s.op {
		case On:
			_, err = s.client.ChassisControl(ctx, chassis.ChassisControlPowerUp)
		case Off:
			_, err = s.client.ChassisControl(ctx, chassis.ChassisControlPowerDown)
		case Reset:
			_, err = s.client.ChassisControl(ctx, chassis.ChassisControlHardReset)
		case Cycle:
			_, err = s.client.ChassisControl(ctx, chassis.ChassisControlPowerCycle)
		case Identify:
			_, err = s.client.ChassisIdentify(ctx, identifyTime, false)
		case NoIdentify:
			_, err = s.client.ChassisIdentify(ctx, 0, false)
		}
		return err
	})
}

// try sends one command, again while the BMC says that it is busy, and puts what
// it refuses into words. The request is repeated under its number until it is
// answered, so that the BMC does it once (§6.12.13).
func (s *session) try(ctx context.Context, send func() error) error {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := send()
		var answer *types.ResponseError
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &answer):
			return s.silence(ctx, err)
		}
		code := answer.CompletionCode()
		switch code {
		case types.CodeNodeBusy, types.CodeCannotProvideResponseBMCInitialize:
			if sleep(ctx, pause) == nil {
				continue
			}
		case types.CodeInsufficientPrivilege:
			return s.forbidden()
		}
		return &refusal{fmt.Sprintf("%s refuses %q: %s (completion code 0x%02x)", s.addr(), s.op, code.String(), uint8(code))}
	}
}

// refusal is a command that the BMC answered with anything but success.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

// turn switches on or off, and succeeds when the machine is. What the BMC says to
// the command counts only if it is not: some refuse to switch on what is on, and
// some share their port with the machine and are deaf while it changes.
func (s *session) turn(ctx context.Context) (Result, error) {
	said := s.command(ctx)
	var refused *refusal
	if said != nil && !errors.Is(said, ErrNoAnswer) && !errors.As(said, &refused) {
		return Result{}, said
	}
	want := string(s.op)
	power, err := s.until(ctx, func(power string) bool { return power == want || refused != nil })
	switch {
	case power == want:
		return Result{Power: power, Verified: true}, nil
	case said != nil && power != "":
		err = fmt.Errorf("%w; the machine is %s", said, power)
	case said != nil:
		err = s.unknown(said)
	}
	return Result{Power: power}, err
}

// reset restarts the machine. All that can be seen of it afterwards is that the
// machine is on; a reset of one that is off does nothing.
func (s *session) reset(ctx context.Context) (Result, error) {
	if err := s.command(ctx); err != nil {
		return Result{}, s.unknown(err)
	}
	power, err := s.until(ctx, func(string) bool { return true })
	if err == nil && power == string(Off) {
		err = fmt.Errorf("%s accepted %q, but the machine is off: switch it on", s.addr(), s.op)
	}
	return Result{Power: power}, err
}

// cycle switches off and on, and watches for both.
func (s *session) cycle(ctx context.Context) (Result, error) {
	if err := s.command(ctx); err != nil {
		return Result{}, s.unknown(err)
	}
	early, cancel := context.WithTimeout(ctx, cyclePatience)
	_, notSeen := s.until(early, func(power string) bool { return power == string(Off) })
	cancel()
	power, err := s.until(ctx, func(power string) bool { return power == string(On) })
	return Result{Power: power, Verified: notSeen == nil && err == nil}, err
}

// unknown adds to the error of a command without an answer that it may have been
// obeyed.
func (s *session) unknown(err error) error {
	if errors.Is(err, ErrNoAnswer) {
		return fmt.Errorf("%w; whether it obeyed %q is not known", err, s.op)
	}
	return err
}

// until looks at the power state until that is as wanted, and returns what it was
// last; "" if it could not be had. A BMC that shares its port with the machine is
// gone for some seconds when the machine changes: then it is called anew.
func (s *session) until(ctx context.Context, wanted func(power string) bool) (last string, _ error) {
	start := time.Now()
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		power, err := s.power(ctx)
		if err == nil {
			if last = power; wanted(power) {
				return power, nil
			}
		} else if err := s.redial(ctx); err != nil && !errors.Is(err, ErrNoAnswer) {
			return last, err
		}
		if sleep(ctx, pause) != nil {
			break
		}
	}
	switch took := time.Since(start).Round(time.Second / 10); {
	case errors.Is(ctx.Err(), context.Canceled):
		return last, interrupted(ctx)
	case last == "":
		return last, s.unknown(fmt.Errorf("%w: nothing from %s for %s", ErrNoAnswer, s.addr(), took))
	default:
		return last, fmt.Errorf("%s accepted %q, but after %s the machine is still %s: look at its console, or ask for its status later",
			s.addr(), s.op, took, last)
	}
}

// sleep waits, unless the context ends first.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
