package legacy

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// export reads documents in MongoDB's extended JSON, version 1 or 2, as a list
// or one after the other. Without a collection each document is put where its
// fields belong, so that the exports of all collections may stand in one file.
func (b *builder) export(r *bufio.Reader, collection string) error {
	if head, _ := r.Peek(3); string(head) == "\xef\xbb\xbf" {
		_, _ = r.Discard(3)
	}
	dec := json.NewDecoder(r)
	if head, err := firstByte(r); err == nil && head == '[' {
		if _, err := dec.Token(); err != nil {
			return fmt.Errorf("not JSON: %w", err)
		}
		n := 1
		for ; dec.More(); n++ {
			if err := b.exported(dec, collection); err != nil {
				return fmt.Errorf("document %d: %w", n, early(err))
			}
		}
		if _, err := dec.Token(); err != nil {
			return fmt.Errorf("after document %d: %w", n-1, early(err))
		}
	}
	if collection != "" {
		b.seen[collection] = true
	}
	for n := 1; ; n++ {
		err := b.exported(dec, collection)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("document %d: %w", n, err)
		}
	}
}

func early(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// firstByte looks at the first byte that is no white space.
func firstByte(r *bufio.Reader) (byte, error) {
	for {
		c, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		}
		return c, r.UnreadByte()
	}
}

// exported takes the next document.
func (b *builder) exported(dec *json.Decoder, collection string) error {
	var fields map[string]json.RawMessage
	if err := dec.Decode(&fields); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		return fmt.Errorf("not JSON: %w", err)
	}
	if collection == "" {
		if collection = collectionWith(fields); collection == "" {
			return errors.New("its fields are those of no object of Luna 1.2")
		}
	}
	// Old exports write its time as a bare number, which no reader takes any
	// more; a node will report its status again.
	delete(fields, "status")
	text, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	var d bson.D
	if err := bson.UnmarshalExtJSON(text, false, &d); err != nil {
		return fmt.Errorf("not extended JSON: %w", err)
	}
	doc, err := bson.Marshal(d)
	if err != nil {
		return err
	}
	return b.add(collection, doc)
}

// collectionWith tells the collection of a document by a field that only its
// documents have.
func collectionWith(fields map[string]json.RawMessage) string {
	for _, c := range []struct{ field, collection string }{
		{"nodeprefix", "cluster"},
		{"NETWORK", "network"},
		{"kernver", "osimage"},
		{"userid", "bmcsetup"},
		{"partscript", "group"},
		{"localboot", "node"},
		{"oid", "switch"},
		{"connected", "otherdev"},
		{"portname", "switch_mac"},
		{"info_hash", "tracker"},
		{"mac", "mac"}, // nodes and switch_mac have it too
	} {
		if _, ok := fields[c.field]; ok {
			return c.collection
		}
	}
	return ""
}
