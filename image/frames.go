package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// The framing of an artifact. Magic numbers and layout of skippable frames are those of the zstd
// format, RFC 8878 section 3.1.2; a 4-byte skippable frame with the length of the next frame is
// what the pzstd tool writes.
const (
	chunkSize    = 4 << 20    // bytes of tar in one frame; a part of the format: it decides the artifact's bytes
	maxFrame     = 5 << 20    // an incompressible chunk grows by a few bytes per 128 KiB block
	lengthMagic  = 0x184D2A50 // skippable frame before each zstd frame: its length, 4 bytes
	trailerMagic = 0x184D2A5E // skippable frame at the end: the length of the tar, 8 bytes
)

var errTruncated = errors.New("the artifact is truncated: fetch it again")

func corrupt(what string) error {
	return fmt.Errorf("the artifact is corrupt (%s): fetch it again", what)
}

// chunks recycles the buffers of chunkSize that hold tar bytes.
type chunks struct{ pool sync.Pool }

func newChunks() *chunks {
	return &chunks{sync.Pool{New: func() any { b := make([]byte, 0, chunkSize); return &b }}}
}

func (c *chunks) get() []byte  { return (*c.pool.Get().(*[]byte))[:0] }
func (c *chunks) put(b []byte) { c.pool.Put(&b) }

// chunker cuts the stream written to it into chunks.
type chunker struct {
	chunks *chunks
	emit   func([]byte) error
	chunk  []byte
	total  int64
}

func (c *chunker) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		if c.chunk == nil {
			c.chunk = c.chunks.get()
		}
		n := min(len(p), chunkSize-len(c.chunk))
		c.chunk = append(c.chunk, p[:n]...)
		p = p[n:]
		written += n
		if len(c.chunk) == chunkSize {
			if err := c.flush(); err != nil {
				return written, err
			}
		}
	}
	return written, nil
}

// flush emits what is left; without it the last bytes of a stream would be missing.
func (c *chunker) flush() error {
	if len(c.chunk) == 0 {
		return nil
	}
	chunk := c.chunk
	c.chunk = nil
	c.total += int64(len(chunk))
	return c.emit(chunk)
}

// compressor returns the work of a packing goroutine: a chunk in, the bytes for the artifact out.
func compressor(c *chunks) (func([]byte) ([]byte, error), error) {
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedDefault), // the zstd tool's level 3, in CPU and in ratio
		zstd.WithEncoderConcurrency(maxWorkers()),
		zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, fmt.Errorf("start the compressor: %w", err)
	}
	return func(chunk []byte) ([]byte, error) {
		out := make([]byte, 12, len(chunk)/2+1024)
		out = enc.EncodeAll(chunk, out)
		c.put(chunk)
		binary.LittleEndian.PutUint32(out, lengthMagic)
		binary.LittleEndian.PutUint32(out[4:], 4)
		binary.LittleEndian.PutUint32(out[8:], uint32(len(out)-12))
		return out, nil
	}, nil
}

// trailer is the last frame of an artifact whose tar has the given length.
func trailer(tarBytes int64) []byte {
	b := binary.LittleEndian.AppendUint32(nil, trailerMagic)
	b = binary.LittleEndian.AppendUint32(b, 8)
	return binary.LittleEndian.AppendUint64(b, uint64(tarBytes))
}

// decompressor returns the work of an unpacking goroutine: a zstd frame in, a chunk of tar out.
func decompressor(c *chunks) (work func([]byte) ([]byte, error), stop func(), err error) {
	dec, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(maxWorkers()),
		zstd.WithDecoderMaxMemory(chunkSize))
	if err != nil {
		return nil, nil, fmt.Errorf("start the decompressor: %w", err)
	}
	return func(frame []byte) ([]byte, error) {
		out, err := dec.DecodeAll(frame, c.get())
		if err != nil {
			return nil, corrupt(err.Error())
		}
		return out, nil
	}, dec.Close, nil
}

// readFrames reads an artifact to its end, emits its zstd frames, and returns the length of the
// tar that its trailer tells. Anything short of a trailer with nothing behind it is an error.
func readFrames(r io.Reader, emit func([]byte) error) (tarBytes int64, err error) {
	var head [16]byte
	for {
		if err := readFull(r, head[:12]); err != nil {
			return 0, err
		}
		magic, size := binary.LittleEndian.Uint32(head[:]), binary.LittleEndian.Uint32(head[4:])
		switch {
		case magic == lengthMagic && size == 4:
			n := binary.LittleEndian.Uint32(head[8:])
			if n > maxFrame {
				return 0, corrupt(fmt.Sprintf("a frame of %d bytes", n))
			}
			frame := make([]byte, n)
			if err := readFull(r, frame); err != nil {
				return 0, err
			}
			if err := emit(frame); err != nil {
				return 0, err
			}
		case magic == trailerMagic && size == 8:
			if err := readFull(r, head[12:16]); err != nil {
				return 0, err
			}
			switch _, err := io.ReadFull(r, head[:1]); err {
			case io.EOF:
				return int64(binary.LittleEndian.Uint64(head[8:])), nil
			case nil:
				return 0, corrupt("bytes after its end")
			default:
				return 0, fmt.Errorf("read the artifact: %w", err)
			}
		default:
			return 0, corrupt(fmt.Sprintf("no frame starts with %08x", magic))
		}
	}
}

func readFull(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTruncated
	}
	if err != nil {
		return fmt.Errorf("read the artifact: %w", err)
	}
	return nil
}

// chunkReader makes a stream of the chunks that next returns.
type chunkReader struct {
	chunks *chunks
	next   func() ([]byte, error)
	chunk  []byte
	at     int
	total  int64
}

func (c *chunkReader) Read(p []byte) (int, error) {
	for c.at == len(c.chunk) {
		if c.chunk != nil {
			c.chunks.put(c.chunk)
			c.chunk = nil
		}
		chunk, err := c.next()
		if err != nil {
			return 0, err
		}
		c.chunk, c.at = chunk, 0
		c.total += int64(len(chunk))
	}
	n := copy(p, c.chunk[c.at:])
	c.at += n
	return n, nil
}
