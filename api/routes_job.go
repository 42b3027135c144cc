package api

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/clustervision/luna/inventory"
)

// jobs registers what takes long: its answer is a line of JSON, a JobEvent, for
// each step.
func (s *server) jobs(mux *http.ServeMux) {
	job(s, mux, "/v1/osimages/{name}/pack", "Pack an osimage's tree on this head", s.b.Pack)
	job(s, mux, "/v1/osimages/{name}/clone", "Copy an osimage and its tree on this head", s.b.Clone)
	job(s, mux, "/v1/osimages/{name}/grab", "Take a running host into an osimage's tree on this head",
		func(ctx context.Context, _ inventory.Asker, image string, r GrabRequest, progress func(JobEvent)) error {
			return s.b.Grab(ctx, image, r, progress)
		})
}

// headJobs are those of heads.
func (s *server) headJobs(mux *http.ServeMux) {
	job(s, mux, "/v1/heads/{name}/drain", "Take from a head all that another one can do", s.b.Drain)
	job(s, mux, "/v1/heads/{name}/leave", "Drain this head and remove it", s.b.Leave)
}

// exports registers what is made of the inventory for other servers.
func (s *server) exports() {
	on(s, RoleAdmin, "POST", "/v1/zones", "Write the DNS zones as files for BIND on this head", func(ctx context.Context, _ *none) (*body[Exported], error) {
		e, err := s.b.Zones(ctx, true)
		return &body[Exported]{e}, err
	})
	on(s, RoleAdmin, "GET", "/v1/zones", "Export the DNS zones as files for BIND", func(ctx context.Context, _ *none) (*body[Exported], error) {
		e, err := s.b.Zones(ctx, false)
		return &body[Exported]{e}, err
	})
	on(s, RoleAdmin, "GET", "/v1/dhcpd", "Export the inventory as a configuration of ISC's dhcpd", func(_ context.Context, in *struct {
		Failover bool `query:"failover" doc:"one file for each of a failover pair"`
	},
	) (*body[Exported], error) {
		e, err := s.b.DHCPConfig(in.Failover)
		return &body[Exported]{e}, err
	})
}

// job registers a long job. The HTTP status is sent with the first event, so a
// failure later is the last event; a client that sees neither "done" nor an
// error knows that the head died.
func job[R any](s *server, mux *http.ServeMux, path, summary string, do func(context.Context, inventory.Asker, string, R, func(JobEvent)) error) {
	op := operation("POST", path, summary)
	op.Parameters = []*huma.Param{{Name: "name", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}}}
	registry := s.api.OpenAPI().Components.Schemas
	op.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{"application/json": {Schema: huma.SchemaFromType(registry, reflect.TypeFor[R]())}}}
	op.Responses = map[string]*huma.Response{"200": {
		Description: "a JobEvent on each line; the last one has phase done, or an error",
		Content:     map[string]*huma.MediaType{"application/x-ndjson": {Schema: huma.SchemaFromType(registry, reflect.TypeFor[JobEvent]())}},
	}}
	s.api.OpenAPI().AddOperation(&op)
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		c := caller(r.Context())
		if c.Role < RoleAdmin {
			writeError(w, inventory.Errorf(inventory.KindDenied, "", "", "'%s' may not do this: %s", c.Name, mayDo(RoleAdmin)))
			return
		}
		if dry, _ := r.Context().Value(dryRunKey{}).(bool); dry {
			writeError(w, inventory.Errorf(inventory.KindInvalid, "", "", "this cannot be tried dry: nothing was done"))
			return
		}
		var request R
		if r.ContentLength != 0 {
			if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&request); err != nil {
				writeError(w, inventory.Errorf(inventory.KindInvalid, "", "", "the request cannot be read: %v", err))
				return
			}
		}
		enc := json.NewEncoder(w)
		started := false
		emit := func(e JobEvent) {
			if !started {
				w.Header().Set("Content-Type", "application/x-ndjson")
				started = true
			}
			_ = enc.Encode(e)                         // a client that went away stops the job through the context
			_ = http.NewResponseController(w).Flush() // likewise
		}
		err := do(r.Context(), c.asker(), r.PathValue("name"), request, emit)
		switch {
		case err == nil:
		case started:
			emit(JobEvent{Error: inventory.AsError(err)})
		default:
			writeError(w, inventory.AsError(err))
		}
	})
}
