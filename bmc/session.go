package bmc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/app"
	"github.com/bougou/go-ipmi/pkg/types"
)

const (
	// How long an answer is waited for while logging in. A lost packet costs a
	// whole login, which begins with the shorter; the longer is for old BMCs,
	// whose processors need seconds for the keys.
	firstPatience = time.Second
	maxPatience   = 5 * time.Second
	// How long, and how often again, once logged in.
	commandPatience = 2 * time.Second
	commandRetries  = 1

	loginPause = 100 * time.Millisecond // between two logins
	closeTime  = 300 * time.Millisecond // for the farewell
)

// suites are tried in this order: HMAC-SHA256, then HMAC-SHA1, which is what BMCs
// had before (§22.15.2). All others lack authentication, integrity or
// encryption, or use RC4.
var suites = []types.CipherSuiteID{types.CipherSuiteID17, types.CipherSuiteID3}

// session is one RMCP+ session with a BMC, for one operation.
type session struct {
	target Target
	op     Op
	client *client.Client
	conn   net.Conn
	id     uint32 // the BMC's; 0 while not logged in
}

// dial logs in, and goes on trying until the context ends: packets get lost, and
// BMCs run out of sessions.
//
// Each attempt has a socket of its own, so that a late answer to an earlier one
// is never taken for an answer to this.
func dial(ctx context.Context, t Target, op Op) (*session, error) {
	start := time.Now()
	offers := slices.Clone(suites)
	for i, patience := 0, firstPatience; ; i, patience = i+1, min(patience*3/2, maxPatience) {
		s := &session{target: t, op: op}
		suite := offers[i%len(offers)] // by turns: some BMCs refuse by silence
		err := s.login(ctx, suite, patience)
		if err == nil {
			return s, nil
		}
		s.close()
		switch {
		case errors.Is(err, ErrCipher):
			if offers = slices.DeleteFunc(offers, func(id types.CipherSuiteID) bool { return id == suite }); len(offers) == 0 {
				return nil, err
			}
			continue
		case !errors.Is(err, errAgain):
			return nil, err
		}
		if sleep(ctx, loginPause) == nil {
			continue
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, interrupted(ctx)
		}
		within := time.Since(start).Round(time.Second / 10)
		if errors.Is(err, errFull) {
			return nil, fmt.Errorf("%w: %s had no session free within %s: close others, or wait a minute until it forgets them", ErrNoAnswer, s.addr(), within)
		}
		return nil, fmt.Errorf("%w: nothing from %s within %s: is it cabled, and is this its address?", ErrNoAnswer, s.addr(), within)
	}
}

// redial replaces the session by a new one.
func (s *session) redial(ctx context.Context) error {
	s.close()
	n, err := dial(ctx, s.target, s.op)
	if err == nil {
		*s = *n
	}
	return err
}

// addr is the BMC's address, for errors.
func (s *session) addr() netip.AddrPort {
	if a := s.target.Addr; a.Port() == 0 {
		return netip.AddrPortFrom(a.Addr(), DefaultPort)
	}
	return s.target.Addr
}

// level is the least privilege with which the operation is allowed (§G).
func (s *session) level() types.PrivilegeLevel {
	if s.op == Status {
		return types.PrivilegeLevelUser
	}
	return types.PrivilegeLevelOperator
}

var (
	// errAgain is the failure of one attempt to log in that the next may not meet.
	errAgain = errors.New("try again")
	errFull  = fmt.Errorf("no session free: %w", errAgain)
)

// login opens a session (§13.15). It goes through the steps itself, where the
// library's Connect would lose the reasons of a refusal, and leave a goroutine
// behind that keeps the session alive. The specification's first step, to ask
// for the channel's capabilities in the format of IPMI 1.5, serves to find out
// whether the BMC speaks 2.0, and is left out: the next step tells.
func (s *session) login(ctx context.Context, suite types.CipherSuiteID, patience time.Duration) error {
	if ctx.Err() != nil {
		return errAgain // for dial to say why
	}
	var err error
	if s.conn, err = (&net.Dialer{}).DialContext(ctx, "udp", s.addr().String()); err != nil {
		return s.silence(ctx, err)
	}
	if s.client, err = client.NewClient("", 0, s.target.User, s.target.Password); err != nil {
		return err
	}
	s.client.WithUDPProxy(socket{s.conn}).WithCipherSuiteID(suite).WithMaxPrivilegeLevel(s.level()).
		WithTimeout(patience).WithRetry(0)

	opened, err := s.client.OpenSession(ctx)
	if err != nil {
		return s.notOpened(ctx, err)
	}
	if _, err := s.client.RAKPMessage1(ctx); err != nil {
		return s.notLoggedIn(ctx, err)
	}
	if _, err := s.client.RAKPMessage3(ctx); err != nil {
		if errors.Is(err, client.ErrRAKPAuthentication) { // the password was right in the step before
			return fmt.Errorf("%w: %s has a BMC key (K_G) beside the password: remove it", ErrLogin, s.addr())
		}
		return s.notLoggedIn(ctx, err)
	}
	s.id = opened.ManagedSystemSessionID
	s.client.WithTimeout(commandPatience).WithRetry(commandRetries)
	if _, err := s.client.SetSessionPrivilegeLevel(ctx, s.level()); err != nil {
		if answer := (*types.ResponseError)(nil); errors.As(err, &answer) {
			return s.forbidden()
		}
		return s.silence(ctx, err)
	}
	return nil
}

// notOpened explains why there is no session. A BMC refuses a cipher suite with
// one of six codes; whatever else it has against our request, it cannot be helped
// but by another suite. ipmi_sim answers too short for a code.
func (s *session) notOpened(ctx context.Context, err error) error {
	var status *types.RmcpStatusError
	switch {
	case errors.As(err, &status) && status.StatusCode() == types.RmcpStatusCodeNoResToCreateSess:
		return errFull
	case errors.As(err, &status):
		return fmt.Errorf("%w: %s: %s", ErrCipher, s.addr(), status.StatusCode())
	case errors.Is(err, types.ErrUnpackedDataTooShort):
		return fmt.Errorf("%w: %s", ErrCipher, s.addr())
	}
	return s.silence(ctx, err)
}

// notLoggedIn explains why the session is not ours (table 13-15).
func (s *session) notLoggedIn(ctx context.Context, err error) error {
	var status *types.RmcpStatusError
	switch {
	case errors.Is(err, client.ErrRAKPAuthentication):
		return s.wrongPassword()
	case !errors.As(err, &status):
		return s.silence(ctx, err)
	}
	switch code := status.StatusCode(); code {
	case types.RmcpStatusCodeNoResToCreateSess, types.RmcpStatusCodeNoResToCreateSessAtRole:
		return errFull
	case types.RmcpStatusCodeInvalidSessionID, types.RmcpStatusCodeInactiveSessionID: // forgotten already
		return errAgain
	case types.RmcpStatusCodeInvalidIntegrityCheckValue:
		return s.wrongPassword()
	case types.RmcpStatusCodeUnauthorizedName, types.RmcpStatusCodeInvalidNameLength:
		return fmt.Errorf("%w: %s has no user %q, or has it disabled", ErrLogin, s.addr(), s.target.User)
	case types.RmcpStatusCodeInvalidRole, types.RmcpStatusCodeUnauthorizedRoleOfPriLevel:
		return s.forbidden()
	default:
		return fmt.Errorf("%w: %s: %s", ErrLogin, s.addr(), code)
	}
}

func (s *session) wrongPassword() error {
	return fmt.Errorf("%w: %s has another password for user %q", ErrLogin, s.addr(), s.target.User)
}

func (s *session) forbidden() error {
	return fmt.Errorf("%w: %q needs the privilege %s, which user %q of %s lacks", ErrPrivilege, s.op, s.level(), s.target.User, s.addr())
}

// silence explains an exchange in which the BMC did not answer. Where another
// machine did in its place, trying again is of no use.
func (s *session) silence(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: there is a machine at %s, but nothing on it that speaks IPMI: is this the address of its BMC, and is IPMI over LAN enabled?", ErrNoAnswer, s.addr())
	case errors.Is(err, syscall.EHOSTUNREACH):
		return fmt.Errorf("%w: nobody is there at %s: is it cabled, and is this its address?", ErrNoAnswer, s.addr())
	case errors.Is(err, syscall.ENETUNREACH):
		return fmt.Errorf("%w: this machine has no route to %s", ErrNoAnswer, s.addr())
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM): // a broadcast address, a packet filter
		return fmt.Errorf("%w: this machine may not send to %s: %w", ErrNoAnswer, s.addr(), err)
	case errors.Is(ctx.Err(), context.Canceled):
		return interrupted(ctx)
	case s.id == 0:
		return errAgain
	}
	return fmt.Errorf("%w: %s fell silent at %q", ErrNoAnswer, s.addr(), s.op)
}

func interrupted(ctx context.Context) error {
	return fmt.Errorf("interrupted: %w", context.Cause(ctx))
}

// close ends the session, which a BMC has few of, and the socket. Closing again
// does nothing.
func (s *session) close() {
	if s.id != 0 {
		// Not the operation's context, which may have ended.
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		_, _ = s.client.CloseSession(ctx, &app.CloseSessionRequest{SessionID: s.id}) // it would end by itself in a minute
		s.id = 0
	}
	if s.conn != nil {
		s.conn.Close()
	}
}

// socket gives the library a socket that is ours to close, and connected to an
// address of either family.
type socket struct{ net.Conn }

// Dial implements the library's proxy.Dialer.
func (s socket) Dial(string, string) (net.Conn, error) { return s.Conn, nil }
