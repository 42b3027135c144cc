package bmc_test

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ipmi "github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/clock"
	"github.com/bougou/go-ipmi/pkg/hal/mock"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/server"
	"github.com/bougou/go-ipmi/pkg/transport/udp"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/clustervision/luna/bmc"
)

// quirky is a BMC that does what ipmi_sim cannot be made to do. It is the
// library's own, so it proves little about the protocol: that is ipmi_sim's part.
type quirky struct {
	// Of the BMC; to be set before start.
	suites   []types.CipherSuiteID
	user     ipmi.PrivilegeLevel // the highest that the user may have
	kg       string              // the BMC key
	sessions int                 // at most

	// control answers Chassis Control, and status what the machine is.
	control func(m *machine, what byte) types.CompletionCode
	lost    func(packet []byte, in bool) bool // of packets
}

// machine is what hangs on it.
type machine struct {
	mu       sync.Mutex
	on       bool
	controls []byte
}

func (m *machine) turn(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.on = on
}

const longPassword = "a password of 20 oct"

func (q quirky) start(t *testing.T) (bmc.Target, *machine) {
	t.Helper()
	m := &machine{}
	if q.user == 0 {
		q.user = ipmi.PrivilegeLevelAdministrator
	}
	b := ipmi.New(ipmi.DeviceInfo{IPMIVersion: 0x20}, [16]byte{1}, mock.New(), ipmi.WithKG([]byte(q.kg)))
	b.SetCipherSuites(append([]types.CipherSuiteID{}, q.suites...))
	if q.sessions > 0 {
		b.Sessions = ipmi.NewSessionStoreWithOptions(clock.Real, ipmi.WithMaxSessions(q.sessions), ipmi.WithInactivityTimeout(2*time.Second))
	}
	u, err := b.Users.Add(2, user)
	if err == nil {
		u.Enabled = true
		u.SetPassword([]byte(longPassword))
		u.ChannelAccess = map[uint8]ipmi.UserChannelAccess{1: {MaxPrivilege: q.user, Enabled: true}}
		err = b.Users.Update(2, func(stored *ipmi.User) error { *stored = *u; return nil })
	}
	if err != nil {
		t.Fatal(err)
	}
	reg := handlers.NewRegistry()
	handlers.RegisterAllHandlers(reg)
	reg.RegisterFunc(types.CommandGetChassisStatus, func(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.on {
			return []byte{1, 0, 0}, 0, nil
		}
		return []byte{0, 0, 0}, 0, nil
	})
	reg.RegisterFunc(types.CommandChassisControl, func(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
		m.mu.Lock()
		m.controls = append(m.controls, req[0])
		m.mu.Unlock()
		return nil, q.control(m, req[0]), nil
	})
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(loopback))
	if err != nil {
		t.Fatal(err)
	}
	srv := server.NewServer(b, &lossy{udp.Wrap(conn), q.lost}, server.WithHandlerRegistry(reg))
	var serving sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	serving.Go(func() { _ = srv.Serve(ctx) })
	t.Cleanup(func() {
		cancel()
		srv.Close()
		serving.Wait()
	})
	return bmc.Target{Addr: conn.LocalAddr().(*net.UDPAddr).AddrPort(), User: user, Password: longPassword}, m
}

// lossy is a bad cable.
type lossy struct {
	*udp.Conn
	lost func(packet []byte, in bool) bool
}

func (l *lossy) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, addr, err := l.Conn.ReadFrom(p)
		if err != nil || l.lost == nil || !l.lost(p[:n], true) {
			return n, addr, err
		}
	}
}

func (l *lossy) WriteTo(p []byte, addr net.Addr) (int, error) {
	if l.lost != nil && l.lost(p, false) {
		return len(p), nil
	}
	return l.Conn.WriteTo(p, addr)
}

// obey does at once what is asked.
func obey(m *machine, what byte) types.CompletionCode {
	m.turn(what == 1)
	return types.CodeOK
}

var both = []types.CipherSuiteID{17, 3}

// TestQuirks: what BMCs do beside the straight way, and what is made of it.
func TestQuirks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		bmc  func() quirky
		op   bmc.Op
		want bmc.Result
		is   error
		text string        // in the error
		time time.Duration // given; the default if 0
		once bool          // the command must arrive once
	}{
		{
			name: "suite 17, and a password of 20 bytes",
			bmc:  func() quirky { return quirky{suites: both[:1], control: obey} },
			op:   bmc.On, want: bmc.Result{Power: "on", Verified: true}, once: true,
		},
		{
			name: "refuses suite 17 as the specification has it",
			bmc:  func() quirky { return quirky{suites: both[1:], control: obey} },
			op:   bmc.On, want: bmc.Result{Power: "on", Verified: true},
		},
		{
			name: "refuses suite 17 by silence",
			bmc: func() quirky {
				return quirky{suites: both[1:], control: obey, lost: func(p []byte, in bool) bool {
					return in && len(p) > 28 && p[5] == 0x10 && p[28] == 3 // Open Session, RAKP-HMAC-SHA256
				}}
			},
			op: bmc.On, want: bmc.Result{Power: "on", Verified: true},
		},
		{
			name: "knows neither suite",
			bmc:  func() quirky { return quirky{suites: []types.CipherSuiteID{1}, control: obey} },
			op:   bmc.On, is: bmc.ErrCipher, text: "takes neither cipher suite 17 nor 3",
		},
		{
			name: "an operator is enough",
			bmc: func() quirky {
				return quirky{suites: both, user: ipmi.PrivilegeLevelOperator, control: obey}
			},
			op: bmc.On, want: bmc.Result{Power: "on", Verified: true},
		},
		{
			name: "a user may look",
			bmc: func() quirky {
				return quirky{suites: both, user: ipmi.PrivilegeLevelUser, control: obey}
			},
			op: bmc.Status, want: bmc.Result{Power: "off", Verified: true},
		},
		{
			name: "a user may not switch",
			bmc: func() quirky {
				return quirky{suites: both, user: ipmi.PrivilegeLevelUser, control: obey}
			},
			op: bmc.On, is: bmc.ErrPrivilege, text: `"on" needs the privilege OPERATOR, which user "ladmin" of 127.0.0.1`,
		},
		{
			name: "refuses to the command only",
			bmc: func() quirky {
				return quirky{suites: both, control: func(*machine, byte) types.CompletionCode { return types.CodeInsufficientPrivilege }}
			},
			op: bmc.On, is: bmc.ErrPrivilege,
		},
		{
			name: "has a key beside the password",
			bmc:  func() quirky { return quirky{suites: both, kg: "key", control: obey} },
			op:   bmc.On, is: bmc.ErrLogin, text: "K_G",
		},
		{
			name: "switches on in its own time",
			bmc: func() quirky {
				return quirky{suites: both, control: func(m *machine, _ byte) types.CompletionCode {
					time.AfterFunc(2*time.Second, func() { m.turn(true) })
					return types.CodeOK
				}}
			},
			op: bmc.On, want: bmc.Result{Power: "on", Verified: true}, once: true,
		},
		{
			name: "accepts and does nothing",
			bmc: func() quirky {
				return quirky{suites: both, control: func(*machine, byte) types.CompletionCode { return types.CodeOK }}
			},
			op: bmc.On, time: 2 * time.Second, want: bmc.Result{Power: "off"},
			text: `accepted "on", but after 2`, once: true,
		},
		{
			name: "refuses to switch off what is off",
			bmc: func() quirky {
				return quirky{suites: both, control: func(*machine, byte) types.CompletionCode { return types.CodeNotSupported }}
			},
			op: bmc.Off, want: bmc.Result{Power: "off", Verified: true}, once: true,
		},
		{
			name: "refuses to switch on",
			bmc: func() quirky {
				return quirky{suites: both, control: func(*machine, byte) types.CompletionCode { return types.CodeNotSupported }}
			},
			op: bmc.On, want: bmc.Result{Power: "off"}, text: `refuses "on": `, once: true,
		},
		{
			name: "is busy for a while",
			bmc: func() quirky {
				var asked atomic.Int32
				return quirky{suites: both, control: func(m *machine, what byte) types.CompletionCode {
					if asked.Add(1) < 4 {
						return types.CodeNodeBusy
					}
					return obey(m, what)
				}}
			},
			op: bmc.On, want: bmc.Result{Power: "on", Verified: true},
		},
		{
			name: "cycles too fast to be seen",
			bmc: func() quirky {
				return quirky{suites: both, control: func(m *machine, _ byte) types.CompletionCode {
					m.turn(true)
					return types.CodeOK
				}}
			},
			op: bmc.Cycle, want: bmc.Result{Power: "on"}, once: true,
		},
		{
			name: "does not come back from a cycle",
			bmc:  func() quirky { return quirky{suites: both, control: obey} },
			op:   bmc.Cycle, time: 2 * time.Second, want: bmc.Result{Power: "off"},
			text: `accepted "cycle", but after 2`,
		},
		{
			name: "is deaf while the machine switches",
			bmc: func() quirky {
				var deaf atomic.Bool
				return quirky{
					suites: both,
					control: func(m *machine, what byte) types.CompletionCode {
						deaf.Store(true)
						time.AfterFunc(6*time.Second, func() { deaf.Store(false) })
						return obey(m, what)
					},
					lost: func([]byte, bool) bool { return deaf.Load() },
				}
			},
			op: bmc.On, want: bmc.Result{Power: "on", Verified: true}, once: true,
		},
		{
			name: "dies of the command",
			bmc: func() quirky {
				var dead atomic.Bool
				return quirky{
					suites:  both,
					control: func(*machine, byte) types.CompletionCode { dead.Store(true); return types.CodeOK },
					lost:    func([]byte, bool) bool { return dead.Load() },
				}
			},
			op: bmc.On, time: 6 * time.Second, is: bmc.ErrNoAnswer, text: `whether it obeyed "on" is not known`, once: true,
		},
		{
			name: "dies of a reset",
			bmc: func() quirky {
				var dead atomic.Bool
				return quirky{
					suites:  both,
					control: func(*machine, byte) types.CompletionCode { dead.Store(true); return types.CodeOK },
					lost:    func([]byte, bool) bool { return dead.Load() },
				}
			},
			op: bmc.Reset, time: 6 * time.Second, is: bmc.ErrNoAnswer, text: `whether it obeyed "reset" is not known`, once: true,
		},
		{
			name: "loses every seventh packet",
			bmc: func() quirky {
				var packets atomic.Int32
				return quirky{suites: both, control: obey, lost: func([]byte, bool) bool { return packets.Add(1)%7 == 0 }}
			},
			op: bmc.On, want: bmc.Result{Power: "on", Verified: true}, once: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			if tt.time > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, tt.time)
				defer cancel()
			}
			to, m := tt.bmc().start(t)
			begin := time.Now()
			got, err := bmc.Do(ctx, to, tt.op)
			t.Logf("in %s: %+v, %v", time.Since(begin).Round(time.Millisecond), got, err)
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if fails := tt.is != nil || tt.text != ""; fails != (err != nil) || tt.is != nil && !errors.Is(err, tt.is) ||
				fails && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got error %v, want %v with %q", err, tt.is, tt.text)
			}
			if err != nil && strings.Contains(err.Error(), longPassword) {
				t.Errorf("the error shows the password: %v", err)
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			if tt.once && len(m.controls) != 1 {
				t.Errorf("the machine was told %v, want one command", m.controls)
			}
		})
	}
}

// TestSessions: no operation leaves a session behind, of which some BMCs have few.
func TestSessions(t *testing.T) {
	t.Parallel()
	to, _ := quirky{suites: both, sessions: 1, control: obey}.start(t)
	begin := time.Now()
	for range 10 {
		if _, err := bmc.Do(t.Context(), to, bmc.On); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("ten operations took %s: they wait for each other's sessions", took)
	}
}

// TestQuirkyIsABMC: ipmitool takes the library's BMC for one, with suite 17.
func TestQuirkyIsABMC(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("ipmitool"); err != nil {
		t.Fatal("ipmitool is missing: run make deps")
	}
	to, _ := quirky{suites: both[:1], control: obey}.start(t)
	cmd := exec.CommandContext(t.Context(), "ipmitool", "-I", "lanplus", "-C", "17", "-H", "127.0.0.1",
		"-p", to.Addr.String()[len("127.0.0.1:"):], "-U", to.User, "-E", "power", "status")
	cmd.Env = append(cmd.Environ(), "IPMI_PASSWORD="+to.Password)
	if out, err := cmd.Output(); err != nil || string(out) != "Chassis Power is off\n" {
		t.Errorf("%q, %v", out, err)
	}
}
