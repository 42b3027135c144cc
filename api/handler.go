package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/clustervision/luna/inventory"
)

// Role is what a caller may do.
type Role int

// The roles, each with all rights of the ones before it, but for RoleHead.
const (
	RoleNobody Role = iota // no certificate: may show a join token, and nothing else
	RoleAdmin              // an admin credential
	RoleLocal              // root on the head's own socket
	RoleHead               // another head: may speak the heads' own language too
)

// Caller is who asks, as the connection proved it.
type Caller struct {
	Name string
	From string // an address, or the head on whose socket it asks
	Role Role
}

func (c Caller) asker() inventory.Asker { return inventory.Asker{By: c.Name, From: c.From} }

// StatusOf gives the HTTP status under which a refusal travels.
func StatusOf(k inventory.Kind) int {
	switch k {
	case inventory.KindNotFound:
		return http.StatusNotFound
	case inventory.KindExists, inventory.KindInUse, inventory.KindRefused:
		return http.StatusConflict
	case inventory.KindInvalid:
		return http.StatusBadRequest
	case inventory.KindDenied:
		return http.StatusForbidden
	case inventory.KindUnavailable:
		return http.StatusServiceUnavailable
	case inventory.KindUnknown:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// Refusal is the body of every answer that is none.
type Refusal = inventory.Error

// refusal is a Refusal on its way out.
type refusal struct {
	Refusal
	status int // 0: that of the kind
}

func (r *refusal) GetStatus() int {
	if r.status != 0 {
		return r.status
	}
	return StatusOf(r.Kind)
}

// ContentType makes refusals plain JSON, and not the problem details (RFC 9457)
// that they do not look like.
func (*refusal) ContentType(string) string { return "application/json" }

// malformed is a refusal of the HTTP layer itself: a body that is no JSON, a
// field that is unknown.
func malformed(status int, message string, errs ...error) huma.StatusError {
	r := &refusal{Refusal{Kind: inventory.KindInvalid, Text: message}, status}
	if status >= http.StatusInternalServerError {
		r.Kind = inventory.KindInternal
	}
	for _, err := range errs {
		if d, ok := err.(huma.ErrorDetailer); ok {
			r.Text += fmt.Sprintf("; %s: %s", d.ErrorDetail().Location, d.ErrorDetail().Message)
		} else if err != nil {
			r.Text += "; " + err.Error()
		}
	}
	return r
}

// plainErrors makes the library speak of errors as malformed does. It has no
// other way to say so than for the whole process.
var plainErrors = sync.OnceFunc(func() { huma.NewError = malformed })

func refuse(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return &refusal{Refusal: *inventory.Errorf(inventory.KindUnavailable, "", "", "gave up waiting: %v", err)}
	}
	return &refusal{Refusal: *inventory.AsError(err)}
}

type callerKey struct{}

// server is the Backend under HTTP.
type server struct {
	b   Backend
	api huma.API
}

// Handler serves a head's API. who tells from the connection who asks.
func Handler(b Backend, version string, who func(*http.Request) Caller) http.Handler {
	plainErrors()
	mux := http.NewServeMux()
	s := &server{b: b, api: humago.New(mux, describe(version))}
	describeTypes(s.api.OpenAPI().Components.Schemas)
	s.cluster()
	s.networks()
	s.osimages()
	s.bmcsetups()
	s.groups()
	s.switches()
	s.otherdevs()
	s.nodes()
	s.heads()
	s.history()
	s.exports()
	s.jobs(mux)
	s.headJobs(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := who(r)
		if c.Role == RoleNobody {
			w.Header().Set("Connection", "close") // of HTTP/2 too: whoever has nothing to show asks once
		}
		if c.Role == RoleNobody && r.URL.Path != admissions {
			writeError(w, inventory.Errorf(inventory.KindDenied, "", "", "a client certificate of this cluster is needed: use the admin credential, or the head's own socket as root"))
			return
		}
		ctx := context.WithValue(r.Context(), callerKey{}, c)
		if dry := r.URL.Query().Get(dryRun); dry != "" && dry != "false" {
			ctx = context.WithValue(ctx, dryRunKey{}, true)
		}
		if reads(r) {
			switch err := b.Fresh(ctx).(type) { //nolint:errorlint // a refusal that is the reason of something else is none
			case nil:
			case *inventory.Error:
				if r.Method == http.MethodGet { // a change that is tried is refused for its own reasons
					writeError(w, err)
					return
				}
			default:
				w.Header().Set(StaleHeader, oneLine(err.Error()))
			}
		} else {
			ctx = context.WithValue(ctx, staleKey{}, func(why string) { w.Header().Set(StaleHeader, oneLine(why)) })
		}
		mux.ServeHTTP(w, r.WithContext(ctx))
	})
}

const (
	// StaleHeader is in the answer to a read where the asked head could not make
	// sure that it knows the newest state, and in that to a change which the asked
	// head does not see itself: the reason, in words.
	StaleHeader = "Luna-Stale"
	// ReadHeader asks, in a request and with the value [ReadLocal], for the state
	// that the asked head has, fresh or not.
	ReadHeader = "Luna-Read"
	// ReadLocal is the value of [ReadHeader].
	ReadLocal = "local"
)

type staleKey struct{}

// Stale tells the one whose change it is, by [StaleHeader], why the asked head does
// not see it. It does nothing where the context is of no such request.
func Stale(ctx context.Context, why string) {
	if tell, ok := ctx.Value(staleKey{}).(func(string)); ok {
		tell(why)
	}
}

// reads tells whether a request is to be answered from the newest state. How the
// asked head is by itself, and what heads tell each other, is not.
func reads(r *http.Request) bool {
	own := slices.Contains([]string{"/v1/head", "/v1/backup", "/v1/openapi.yaml", "/v1/openapi.json"}, r.URL.Path) ||
		strings.HasPrefix(r.URL.Path, "/v1/commands") || !strings.HasPrefix(r.URL.Path, "/v1/")
	dry := r.URL.Query().Get(dryRun)
	return (r.Method == http.MethodGet || dry != "" && dry != "false") && !own && r.Header.Get(ReadHeader) != ReadLocal
}

// oneLine makes a text fit for a header.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func writeError(w http.ResponseWriter, e *inventory.Error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(StatusOf(e.Kind))
	_ = json.NewEncoder(w).Encode(e) // the peer is gone if this fails
}

func caller(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// none is an input or output without content.
type none struct{}

// body is an input or output that is all body.
type body[T any] struct{ Body T }

// named is an input that is all path.
type named struct {
	Name string `path:"name"`
}

// change is an input with a name in the path and the rest in the body.
type change[T any] struct {
	Name string `path:"name"`
	Body T
}

// dryRun is the query parameter that every change takes.
const dryRun = "dry_run"

// on registers an operation for callers of at least that role.
func on[I, O any](s *server, min Role, method, path, summary string, do func(ctx context.Context, in *I) (*O, error)) {
	op := operation(method, path, summary)
	writes := reflect.TypeFor[O]() == reflect.TypeFor[body[Written]]()
	if writes {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: dryRun, In: "query", Schema: &huma.Schema{Type: huma.TypeBoolean},
			Description: "change nothing, and tell what would change",
		})
	}
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		c := caller(ctx)
		if c.Role < min {
			return nil, refuse(inventory.Errorf(inventory.KindDenied, "", "", "'%s' may not do this: %s", c.Name, mayDo(min)))
		}
		if dry, _ := ctx.Value(dryRunKey{}).(bool); dry && !writes && method != http.MethodGet {
			return nil, refuse(inventory.Errorf(inventory.KindInvalid, "", "", "this cannot be tried dry: nothing was done"))
		}
		out, err := do(ctx, in)
		return out, refuse(err)
	})
}

// admissions is the path for those who have no certificate yet: what it takes is bounded.
const admissions = "/v1/admissions"

func operation(method, path, summary string) huma.Operation {
	noun, _, _ := strings.Cut(strings.TrimPrefix(path, "/v1/"), "/")
	size, patience := int64(64<<20), time.Duration(-1)
	if path == admissions {
		size, patience = 64<<10, 5*time.Second
	}
	return huma.Operation{
		OperationID: strings.ToLower(method) + strings.NewReplacer("/v1/", "-", "/", "-", "{", "", "}", "").Replace(path),
		Method:      method, Path: path, Summary: summary, Tags: []string{noun},
		Hidden:       path == admissions || strings.HasPrefix(path, "/v1/commands"), // between heads
		MaxBodyBytes: size, BodyReadTimeout: patience,
		SkipValidateBody: method+path == "POST/v1/document", // it is read raw, which the library holds to be a string
	}
}

func mayDo(r Role) string {
	switch r {
	case RoleHead:
		return "only heads may"
	case RoleLocal:
		return "only root on the head itself may, over its socket"
	}
	return "an admin credential is needed"
}

// collect renders every element of a sequence; an empty list is [] in JSON.
func collect[T, W any](inv *inventory.Inventory, seq func(func(*T) bool), render func(*inventory.Inventory, *T) W) *body[[]W] {
	out := &body[[]W]{Body: []W{}}
	for o := range seq {
		out.Body = append(out.Body, render(inv, o))
	}
	return out
}
