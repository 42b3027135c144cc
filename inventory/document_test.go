package inventory

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestASlipInADocument holds that what a document does not know is refused, also
// deep inside, where leaving it out would unset things.
func TestASlipInADocument(t *testing.T) {
	for _, tc := range []struct{ document, want string }{
		{`{"luna":1,"groups":{"g":{"interfaces":{"BOOTIF":{"network":"cluster"}}}}}`, `unknown field "network"`},
		{`{"luna":1,"networks":{"n":{"dhcp_range":{"start":"10.0.0.1","ende":"10.0.0.9"}}}}`, `unknown field "ende"`},
	} {
		var d Document
		if err := json.Unmarshal([]byte(tc.document), &d); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %s", tc.document, err, tc.want)
		}
	}
}

// TestMaybe holds that left out, null and a value are three things, there and
// back.
func TestMaybe(t *testing.T) {
	for _, text := range []string{`{}`, `{"mac":null,"switch":null,"tags":null}`, `{"group":"g","mac":"52:54:00:00:00:01","tags":["a"],"comment":""}`} {
		var d NodeDoc
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			t.Fatal(err)
		}
		back, err := json.Marshal(d)
		if err != nil || string(back) != text {
			t.Errorf("%s became %s, %v", text, back, err)
		}
	}
}

func TestDocumentsAreRefused(t *testing.T) {
	for _, tc := range []struct{ document, want string }{
		{`{}`, "the document's format is 0"},
		{`{"luna":2}`, "the document's format is 2"},
		{`{"luna":1,"nodes":{"we ird":{}}}`, "cannot name a node"},
		{`{"luna":1,"nodes":{"n":{"tags":["a b"]}}}`, "cannot be a tag"},
		{`{"luna":1,"networks":{"n":{"network":"10.0.0.0/31"}}}`, "[1..30]"},
		{`{"luna":1,"networks":{"n":{"dhcp_range":{"start":"10.0.0.9","end":"10.0.0.1"}}}}`, "Wrong range"},
		{`{"luna":1,"networks":{"n":{"dhcp_range":{"start":"10.0.0.9"}}}}`, "a first and a last address"},
		{`{"luna":1,"osimages":{"o":{"path":"relative"}}}`, "must be absolute"},
		{`{"luna":1,"bmcsetups":{"b":{"userid":99}}}`, "[1..63]"},
		{`{"luna":1,"groups":{"g":{"interfaces":{"eth 0":{}}}}}`, "cannot name a interface"},
		{`{"luna":1,"switches":{"s":{"ip":null}}}`, "needs an IP address"},
		{`{"luna":1,"switches":{"s":{"oid":"x"}}}`, "is no OID"},
		{`{"luna":1,"otherdevs":{"o":{"connected":{"n":""}}}}`, "is missing"},
		{`{"luna":1,"cluster":{"frontend_port":0}}`, "[1..65535]"},
	} {
		var d Document
		if err := json.Unmarshal([]byte(tc.document), &d); err != nil {
			t.Fatal(err)
		}
		if err := d.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %s", tc.document, err, tc.want)
		}
	}
}

func TestMask(t *testing.T) {
	d := Document{BMCSetups: map[string]BMCSetupDoc{"b": {User: Given("u"), Password: Given("secret")}}}
	d.Mask()
	if raw, _ := json.Marshal(d); strings.Contains(string(raw), "secret") {
		t.Errorf("%s", raw)
	}
}
