package api

import (
	"bytes"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/openapi.yaml anew")

// TestTheFileOfTheAPI holds docs/openapi.yaml to what heads serve.
func TestTheFileOfTheAPI(t *testing.T) {
	const file = "../docs/openapi.yaml"
	srv := httptest.NewServer(Handler(emptyHead{}, "1", func(*http.Request) Caller { return Caller{Name: "admin", Role: RoleAdmin} }))
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL + "/v1/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	served, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET /v1/openapi.yaml: %s %v", resp.Status, err)
	}
	if *update {
		if err := os.WriteFile(file, served, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept, served) {
		t.Errorf("%s is not what a head serves: go test ./api -update\n%s", file, cmp.Diff(string(kept), string(served)))
	}
}
