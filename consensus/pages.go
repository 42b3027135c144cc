package consensus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/bits"
	"os"
)

// This file reads a bbolt file as bbolt would, before bbolt does, to see whether
// it may: see checkPages.
//
// bbolt trusts what it finds. It maps the file into memory and follows page
// numbers, and where a page is damaged it panics, walks in circles until the stack
// overflows, or reads beyond the file, which the kernel answers with a signal: and
// neither of the last two can be recovered from. Its own check (bbolt.Tx.Check)
// trusts the same numbers. A child process could be sent ahead, but a walk is
// short: only pages that can be reached from the newest root are ever looked at by
// bbolt, and these are few forms.
//
// What the walk guarantees is that bbolt can go everywhere: each page is where its
// number says, is reached once, and holds what it claims to. It does not know
// whether a page is the right one: an old copy of it, to which a damaged number may
// point, is sound too. That is what the sums in entry.go are for. And it must be as
// strict as bbolt, which checks some of this when it opens a file, in a goroutine of
// its own that panics: the order of keys, for one.

// The form of a bbolt file, version 2, all in the order of bytes of the machine,
// which bbolt writes: little on all that Luna runs on.
const (
	boltMagic    = 0xED0CDAED
	boltVersion  = 2
	pageHeader   = 16 // number 8, kind 2, count 2, further pages 4
	metaSize     = 64 // from the magic number to the checksum
	branchSize   = 16 // offset 4, length of the key 4, page 8
	leafSize     = 16 // kind 4, offset 4, length of the key 4, of the value 4
	bucketSize   = 16 // root page 8, sequence 8; then the page itself, if root is 0
	kindBranch   = 1
	kindLeaf     = 2
	kindMeta     = 4
	kindFreelist = 16
	noFreelist   = ^uint64(0)

	// maxDepth is more than any file can need: each page but the last level has two
	// children or more.
	maxDepth = 64
)

// boltMeta is one of the two pages that a transaction ends with, in turns.
type boltMeta struct {
	pageSize       int
	root, freelist uint64
	pages          uint64 // how many are in use at most
	txid           uint64
}

// pages is a walk through a bbolt file.
type pages struct {
	file    io.ReaderAt
	size    int64 // of the file
	meta    boltMeta
	reached map[uint64]bool
	buckets []string
}

// checkPages reports what is wrong with the structure of a bbolt file, nil if
// nothing, and the names of the buckets in it. blank says that nothing was ever
// written to it. The error is that of reading, if the reading has failed.
func checkPages(file *os.File) (buckets []string, blank bool, err error) {
	info, err := file.Stat()
	if err != nil {
		return nil, false, err
	}
	p := &pages{file: file, size: info.Size(), reached: make(map[uint64]bool)}
	if p.meta, err = p.newest(); err != nil {
		return nil, false, err
	}
	if p.meta.freelist != noFreelist {
		if err := p.walkFreelist(p.meta.freelist); err != nil {
			return nil, false, err
		}
	}
	err = p.walk(p.meta.root, 0, true, nil, nil)
	return p.buckets, p.meta.txid <= 1 && len(p.buckets) == 0, err
}

// newest is the meta page that bbolt will go by.
//
// bbolt takes the older one, and forgets the last transaction, if the newer is not
// sound: so that a write of it which was torn does no harm. But a meta page is
// shorter than the 512 bytes that every disk writes whole or not at all. An unsound
// one is damaged, and without it the last transaction, which may be an entry or a
// vote that others count on, would be gone: so both must be sound.
func (p *pages) newest() (boltMeta, error) {
	var metas [2]boltMeta
	first, err := p.readMeta(0)
	if err != nil {
		return boltMeta{}, fmt.Errorf("meta page 0: %w", err)
	}
	metas[0] = first
	if metas[1], err = p.readMeta(int64(first.pageSize)); err != nil {
		return boltMeta{}, fmt.Errorf("meta page 1: %w", err)
	}
	if metas[0].pageSize != metas[1].pageSize {
		return boltMeta{}, errors.New("its two meta pages are of different files")
	}
	newest := metas[0]
	if metas[1].txid > newest.txid {
		newest = metas[1]
	}
	if need := newest.pages * uint64(newest.pageSize); uint64(p.size) < need {
		return boltMeta{}, fmt.Errorf("it is cut off: %d bytes of at least %d are there", p.size, need)
	}
	return newest, nil
}

func (p *pages) readMeta(at int64) (m boltMeta, err error) {
	b := make([]byte, pageHeader+metaSize)
	if err := p.read(b, at); err != nil {
		return m, err
	}
	number, b := binary.NativeEndian.Uint64(b), b[pageHeader:]
	if binary.NativeEndian.Uint32(b) != boltMagic || binary.NativeEndian.Uint32(b[4:]) != boltVersion {
		return m, errors.New("not one of a bbolt file")
	}
	sum := fnv.New64a()
	_, _ = sum.Write(b[:metaSize-8])
	if sum.Sum64() != binary.NativeEndian.Uint64(b[metaSize-8:]) {
		return m, errors.New("its checksum is wrong")
	}
	size := binary.NativeEndian.Uint32(b[8:])
	if size < 1024 || size > 1<<20 || bits.OnesCount32(size) != 1 {
		return m, fmt.Errorf("pages of %d bytes", size)
	}
	if number*uint64(size) != uint64(at) {
		return m, fmt.Errorf("it is where page %d should be", number)
	}
	return boltMeta{
		pageSize: int(size),
		root:     binary.NativeEndian.Uint64(b[16:]),
		freelist: binary.NativeEndian.Uint64(b[32:]),
		pages:    binary.NativeEndian.Uint64(b[40:]),
		txid:     binary.NativeEndian.Uint64(b[48:]),
	}, nil
}

// read fills b. The end of the file is damage, and not an error of reading.
func (p *pages) read(b []byte, at int64) error {
	_, err := p.file.ReadAt(b, at)
	if errors.Is(err, io.EOF) {
		return errors.New("the file ends before it")
	}
	return err
}

// boltPage is a page with those that continue it, and its header taken apart.
type boltPage struct {
	data  []byte
	kind  uint16
	count int
}

// page reads a page that was not reached yet.
func (p *pages) page(number uint64) (pg boltPage, err error) {
	if number < 2 || number >= p.meta.pages {
		return pg, fmt.Errorf("page %d: there is none of that number", number)
	}
	head := make([]byte, pageHeader)
	at := int64(number) * int64(p.meta.pageSize)
	if err := p.read(head, at); err != nil {
		return pg, fmt.Errorf("page %d: %w", number, err)
	}
	if says := binary.NativeEndian.Uint64(head); says != number {
		return pg, fmt.Errorf("page %d: it says that it is page %d", number, says)
	}
	further := uint64(binary.NativeEndian.Uint32(head[12:]))
	if number+further >= p.meta.pages {
		return pg, fmt.Errorf("page %d: it goes on for %d pages, beyond the last one", number, further)
	}
	for i := number; i <= number+further; i++ {
		if p.reached[i] {
			return pg, fmt.Errorf("page %d: it is used twice", i)
		}
		p.reached[i] = true
	}
	pg = boltPage{
		data:  make([]byte, (further+1)*uint64(p.meta.pageSize)),
		kind:  binary.NativeEndian.Uint16(head[8:]),
		count: int(binary.NativeEndian.Uint16(head[10:])),
	}
	if err := p.read(pg.data, at); err != nil {
		return pg, fmt.Errorf("page %d: %w", number, err)
	}
	return pg, nil
}

// walkFreelist checks the list of free pages, which files have that were never
// written to, or by other programs.
func (p *pages) walkFreelist(number uint64) error {
	pg, err := p.page(number)
	if err != nil {
		return err
	}
	count, at := uint64(pg.count), uint64(pageHeader)
	if count == 0xFFFF {
		count, at = binary.NativeEndian.Uint64(pg.data[pageHeader:]), pageHeader+8
	}
	if pg.kind != kindFreelist || count > (uint64(len(pg.data))-at)/8 {
		return fmt.Errorf("page %d: it is not a sound list of free pages", number)
	}
	for i := range count {
		free := binary.NativeEndian.Uint64(pg.data[at+8*i:])
		if free < 2 || free >= p.meta.pages || p.reached[free] {
			return fmt.Errorf("page %d: it says that page %d is free, which cannot be", number, free)
		}
		p.reached[free] = true
	}
	return nil
}

// walk checks the tree below a page, whose keys must be from low to below high. top
// says that it is the tree of buckets: there are buckets in it and nothing else, and
// only there.
func (p *pages) walk(number uint64, depth int, top bool, low, high []byte) error {
	pg, err := p.page(number)
	if err != nil {
		return err
	}
	if depth > maxDepth {
		return fmt.Errorf("page %d: it is too deep in the tree", number)
	}
	switch {
	case pg.kind == kindLeaf:
		err = p.leaf(pg, top, low, high)
	case pg.kind == kindBranch && pg.count > 0:
		err = p.branch(pg, depth, top, low, high)
	default:
		err = fmt.Errorf("it is of kind %d with %d elements", pg.kind, pg.count)
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", number, err)
	}
	return nil
}

func (p *pages) branch(pg boltPage, depth int, top bool, low, high []byte) error {
	children, keys := make([]uint64, pg.count), make([][]byte, pg.count+1)
	keys[pg.count] = high
	for i := range pg.count {
		element, at, err := pg.element(i, branchSize)
		if err != nil {
			return err
		}
		if keys[i], err = pg.slice(at, element[0], element[1]); err != nil {
			return err
		}
		children[i] = binary.NativeEndian.Uint64(pg.data[at+8:])
	}
	if err := ascend(keys[:pg.count], low, high); err != nil {
		return err
	}
	for i, child := range children {
		if err := p.walk(child, depth+1, top, keys[i], keys[i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (p *pages) leaf(pg boltPage, top bool, low, high []byte) error {
	keys := make([][]byte, pg.count)
	for i := range pg.count {
		element, at, err := pg.element(i, leafSize)
		if err != nil {
			return err
		}
		if isBucket := element[0] == 1; isBucket != top || element[0] > 1 {
			return fmt.Errorf("element %d: it is of kind %d", i, element[0])
		}
		if keys[i], err = pg.slice(at, element[1], element[2]); err != nil {
			return err
		}
		value, err := pg.slice(at+int(element[2]), element[1], element[3])
		if err != nil {
			return err
		}
		if !top {
			continue
		}
		p.buckets = append(p.buckets, string(keys[i]))
		if err := p.bucket(value); err != nil {
			return fmt.Errorf("bucket %q: %w", keys[i], err)
		}
	}
	return ascend(keys, low, high)
}

// bucket walks through a bucket: either elsewhere or, if it is small, in its place.
func (p *pages) bucket(value []byte) error {
	if len(value) < bucketSize {
		return errors.New("it is too short")
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return p.walk(root, 0, false, nil, nil)
	}
	if len(value) < bucketSize+pageHeader {
		return errors.New("it is too short")
	}
	inner := boltPage{
		data:  value[bucketSize:],
		kind:  binary.NativeEndian.Uint16(value[bucketSize+8:]),
		count: int(binary.NativeEndian.Uint16(value[bucketSize+10:])),
	}
	if inner.kind != kindLeaf {
		return fmt.Errorf("it is of kind %d", inner.kind)
	}
	return p.leaf(inner, false, nil, nil)
}

// element is the i-th element of a page as numbers, and its place.
func (pg boltPage) element(i, size int) (words [4]uint32, at int, err error) {
	at = pageHeader + i*size
	if at+size > len(pg.data) {
		return words, at, fmt.Errorf("it has not room for its %d elements", pg.count)
	}
	for w := range words {
		words[w] = binary.NativeEndian.Uint32(pg.data[at+4*w:])
	}
	return words, at, nil
}

// slice is a part of the page, of that length and so far behind the place.
func (pg boltPage) slice(at int, offset, length uint32) ([]byte, error) {
	from := uint64(at) + uint64(offset)
	to := from + uint64(length)
	if to > uint64(len(pg.data)) || from < pageHeader {
		return nil, fmt.Errorf("an element of %d bytes reaches beyond it", length)
	}
	return pg.data[from:to], nil
}

// ascend reports whether there are keys out of order.
func ascend(keys [][]byte, low, high []byte) error {
	for i, key := range keys {
		switch {
		case len(key) == 0:
			return errors.New("a key is empty")
		case i > 0 && bytes.Compare(keys[i-1], key) >= 0,
			bytes.Compare(key, low) < 0,
			high != nil && bytes.Compare(key, high) >= 0:
			return fmt.Errorf("key %x is out of order", key)
		}
	}
	return nil
}
