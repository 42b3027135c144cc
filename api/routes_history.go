package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/clustervision/luna/inventory"
)

// Entry is a line of the audit trail.
type Entry struct {
	ID        uint64    `json:"id"`
	At        time.Time `json:"at"`
	By        string    `json:"by" doc:"who asked for it"`
	From      string    `json:"from" doc:"an address, or the head on which it was asked"`
	Verb      string    `json:"verb"`
	Objects   []string  `json:"objects" doc:"what it changed, as node/node[001-100]"`
	UndoneBy  uint64    `json:"undone_by" doc:"the entry that took it back; 0 if none did"`
	Forgotten bool      `json:"forgotten" doc:"its changes are not kept any more"`
	Changes   []Change  `json:"changes,omitempty" doc:"only where one entry is asked for"`
}

func entryOf(e *inventory.Entry) Entry {
	return Entry{
		ID: e.ID, At: e.At, By: e.By, From: e.From, Verb: e.Verb, Objects: e.Objects,
		UndoneBy: e.UndoneBy, Forgotten: e.Forgotten,
	}
}

// numbered is an input whose path is the number of a log entry.
type numbered struct {
	ID uint64 `path:"id"`
}

func (s *server) history() {
	on(s, RoleAdmin, "GET", "/v1/log", "List who changed what, the newest first", func(_ context.Context, in *struct {
		Object string `query:"object" doc:"only changes of objects of this type"`
		Name   string `query:"name" doc:"only changes of this object"`
		Limit  int    `query:"limit" default:"100" doc:"how many entries; 0 for all"`
	},
	) (*body[[]Entry], error) {
		out := &body[[]Entry]{Body: []Entry{}}
		for e := range s.b.View().Entries() {
			if in.Limit > 0 && len(out.Body) == in.Limit {
				break
			}
			if e.Touches(in.Object, in.Name) {
				out.Body = append(out.Body, entryOf(e))
			}
		}
		return out, nil
	})
	on(s, RoleAdmin, "GET", "/v1/log/{id}", "Show a change: what was before and after", func(_ context.Context, in *struct {
		ID      uint64 `path:"id"`
		Secrets bool   `query:"secrets" doc:"passwords in the clear"`
	},
	) (*body[Entry], error) {
		inv := s.b.View()
		e, ok := inv.Entry(in.ID)
		if !ok {
			return nil, inventory.Errorf(inventory.KindNotFound, "log", strconv.FormatUint(in.ID, 10), "there is no entry %d in the log: luna log lists them", in.ID)
		}
		out := entryOf(e)
		out.Changes = changesOf(inv, inv, e.Changes, in.Secrets)
		return &body[Entry]{out}, nil
	})
	on(s, RoleAdmin, "POST", "/v1/log/{id}/undo", "Take a change back", func(ctx context.Context, in *numbered) (*body[Written], error) {
		return s.write(ctx, inventory.UndoChange{Entry: in.ID})
	})
	on(s, RoleAdmin, "GET", "/v1/document", "Export the whole inventory", func(_ context.Context, in *secrecy) (*body[inventory.Document], error) {
		inv := s.b.View()
		if c, ok := inv.Cluster(); !ok || c.Deleted {
			return nil, inventory.NotFound("cluster", "general")
		}
		d := inventory.DocumentOf(inv)
		if !in.Secrets {
			d.Mask()
		}
		return &body[inventory.Document]{d}, nil
	})
	on(s, RoleAdmin, "POST", "/v1/document", "Make a document true, all of it or nothing", func(ctx context.Context, in *struct {
		Prune   bool            `query:"prune" doc:"delete what the document does not name"`
		RawBody json.RawMessage `contentType:"application/json"`
	},
	) (*body[Written], error) {
		d, err := readDocument(in.RawBody)
		if err != nil {
			return nil, err
		}
		return s.write(ctx, inventory.ApplyDocument{Document: d, Prune: in.Prune})
	})
	describeDocument(s.api.OpenAPI())
}

// describeDocument puts the shape of a document into the description of the
// request that takes one: the library sees only that it is read raw.
func describeDocument(o *huma.OpenAPI) {
	post := o.Paths["/v1/document"].Post
	post.RequestBody.Content["application/json"].Schema = o.Components.Schemas.Schema(reflect.TypeFor[inventory.Document](), true, "Document")
}

// readDocument is strict: a field that is misspelt must not be passed over.
func readDocument(b []byte) (inventory.Document, error) {
	var d inventory.Document
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err := dec.Decode(&d)
	if err == nil && dec.More() {
		err = errors.New("there is more behind the document")
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("it is empty")
	}
	if err != nil {
		return d, inventory.Errorf(inventory.KindInvalid, "document", "", "the document cannot be read: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return d, nil
}
