package legacy

import (
	"bytes"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"io"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The archive of mongodump, by the specification beside its source
// (mongo-tools, common/archive/spec.md): a magic number; a block with a header
// and a document for each collection that will come; then blocks, each with a
// header that names a collection, some of its documents, and a terminator.
// Blocks of several collections may be mixed. A header with EOF ends its
// collection and carries the CRC-64 of all its documents.

// terminator ends a block: it is no length that a document could have.
const terminator = 0xffffffff

var archiveMagic = []byte{0x6d, 0xe2, 0x99, 0x81} // 0x8199e26d, little endian

func isArchive(head []byte) bool { return bytes.HasPrefix(head, archiveMagic) }

// stream is one collection of an archive, as far as it was read.
type stream struct {
	sum   hash.Hash64
	ended bool
}

// blockHeader begins a block.
type blockHeader struct {
	Database   string `bson:"db"`
	Collection string `bson:"collection"`
	EOF        bool   `bson:"EOF"`
	CRC        int64  `bson:"CRC"`
}

// archive reads a mongodump archive from its magic number on.
func (b *builder) archive(r io.Reader) error {
	if _, err := io.CopyN(io.Discard, r, int64(len(archiveMagic))); err != nil {
		return err
	}
	streams, db, err := prelude(r)
	if err != nil {
		return fmt.Errorf("the archive's list of collections: %w", err)
	}
	var d documents
	for {
		header, err := d.next(r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("the archive: %w", err)
		}
		var h blockHeader
		if err := bson.Unmarshal(header, &h); err != nil {
			return fmt.Errorf("the archive: the header of a block: %w", err)
		}
		s := streams[h.Database+"."+h.Collection]
		if s == nil {
			return fmt.Errorf("the archive: it has documents of %s.%s, which it did not announce", h.Database, h.Collection)
		}
		if err := b.block(r, h, s, h.Database == db); err != nil {
			return fmt.Errorf("the archive: collection %s: %w", h.Collection, err)
		}
	}
	for name, s := range streams {
		if !s.ended && strings.HasPrefix(name, db+".") {
			return fmt.Errorf("the archive: collection %s has no end: %w", strings.TrimPrefix(name, db+"."), io.ErrUnexpectedEOF)
		}
	}
	return nil
}

// block reads the documents of one block. Those of other databases are passed
// over.
func (b *builder) block(r io.Reader, h blockHeader, s *stream, ours bool) error {
	var d documents
	for n := 1; ; n++ {
		doc, err := d.next(r)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if doc == nil {
			break
		}
		s.sum.Write(doc)
		if !ours {
			continue
		}
		if err := b.add(h.Collection, doc); err != nil {
			return fmt.Errorf("document %d of a block: %w", n, err)
		}
	}
	if ours {
		b.seen[h.Collection] = true
	}
	if h.EOF {
		s.ended = true
		if want := uint64(h.CRC); s.sum.Sum64() != want {
			return fmt.Errorf("its checksum is %016x and should be %016x: the archive is damaged, copy or dump it again", s.sum.Sum64(), want)
		}
	}
	return nil
}

// prelude reads the first block: which collections come, by "database.name",
// and which database is Luna's.
func prelude(r io.Reader) (map[string]*stream, string, error) {
	var d documents
	if doc, err := d.next(r); err != nil || doc == nil {
		return nil, "", cmpErr(err, errors.New("there is no header"))
	}
	table := crc64.MakeTable(crc64.ECMA)
	streams := map[string]*stream{}
	var candidates []string
	for {
		doc, err := d.next(r)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, "", err
		}
		if doc == nil {
			break
		}
		var c struct {
			Database   string `bson:"db"`
			Collection string `bson:"collection"`
			Type       string `bson:"type"`
		}
		if err := bson.Unmarshal(doc, &c); err != nil {
			return nil, "", err
		}
		streams[c.Database+"."+c.Collection] = &stream{sum: crc64.New(table), ended: c.Type == "view"}
		if c.Collection == "cluster" {
			candidates = append(candidates, c.Database)
		}
	}
	switch {
	case slices.Contains(candidates, database):
		return streams, database, nil
	case len(candidates) == 1:
		return streams, candidates[0], nil
	case len(candidates) == 0:
		return nil, "", errors.New("no database in it has a collection 'cluster'")
	}
	return nil, "", fmt.Errorf("more than one database in it has a collection 'cluster' (%s): dump one alone with \"mongodump -d NAME --archive=FILE\"", strings.Join(candidates, ", "))
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}
