// Command outside checks a log by Go's own packages for transparency logs, which know nothing of Perks Gateway.
//
// It reads cases from standard input, one JSON object a line, and answers each with a line: "ok", or what is wrong.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A testCase says what to check in Do; which fields it needs is told there.
type testCase struct {
	Do      string
	Keys    []string
	Note    string
	Origin  string
	Size    int64
	Root    tlog.Hash
	Index   int64
	Entry   []byte
	Older   int64
	OldRoot tlog.Hash
	Proof   []tlog.Hash
	Folder  string
	Entries map[string][]byte
	Sizes   map[string]tlog.Hash
}

var checks = map[string]func(testCase) error{
	"checkpoint": checkpoint,
	"included":   included,
	"consistent": consistent,
	"tiles":      tiles,
}

// checkpoint opens Note by Keys and compares it with Origin, Size and Root.
func checkpoint(c testCase) error {
	origin, tree, err := open(c.Note, c.Keys)
	if err == nil && (origin != c.Origin || tree.N != c.Size || tree.Hash != c.Root) {
		err = fmt.Errorf("it is of %s, %d, %s", origin, tree.N, tree.Hash)
	}
	return err
}

// included checks Proof from Entry at Index to Root of Size.
func included(c testCase) error {
	return tlog.CheckRecord(c.Proof, c.Size, c.Root, c.Index, tlog.RecordHash(c.Entry))
}

// consistent checks Proof from OldRoot of Older to Root of Size.
func consistent(c testCase) error {
	return tlog.CheckTree(c.Proof, c.Size, c.Root, c.Older, c.OldRoot)
}

// tiles reads Folder: its checkpoint by Keys, then from its tiles proofs of Entries by index and of the roots of Sizes.
func tiles(c testCase) error {
	signed, err := os.ReadFile(filepath.Join(c.Folder, "checkpoint"))
	if err != nil {
		return err
	}
	_, tree, err := open(string(signed), c.Keys)
	if err != nil {
		return err
	}
	reader := tlog.TileHashReader(tree, folder(c.Folder))
	root, err := tlog.TreeHash(tree.N, reader)
	if err != nil {
		return err
	}
	if root != tree.Hash {
		return fmt.Errorf("the tiles have the root %s", root)
	}
	for at, entry := range c.Entries {
		index, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return err
		}
		proof, err := tlog.ProveRecord(tree.N, index, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry)); err != nil {
			return fmt.Errorf("entry %d: %w", index, err)
		}
	}
	for older, was := range c.Sizes {
		size, err := strconv.ParseInt(older, 10, 64)
		if err != nil {
			return err
		}
		proof, err := tlog.ProveTree(tree.N, size, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, size, was); err != nil {
			return fmt.Errorf("size %d: %w", size, err)
		}
	}
	return nil
}

// open returns the origin and the tree of a checkpoint that one of the keys signed.
func open(signed string, keys []string) (string, tlog.Tree, error) {
	var verifiers []note.Verifier
	for _, key := range keys {
		verifier, err := note.NewVerifier(key)
		if err != nil {
			return "", tlog.Tree{}, err
		}
		verifiers = append(verifiers, verifier)
	}
	opened, err := note.Open([]byte(signed), note.VerifierList(verifiers...))
	if err != nil {
		return "", tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 {
		return "", tlog.Tree{}, fmt.Errorf("a checkpoint of %d lines", len(lines))
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return "", tlog.Tree{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return lines[0], tlog.Tree{N: size, Hash: root}, err
}

// A folder holds tiles as C2SP names them: as Go does, without the height, which is always 8.
type folder string

func (folder) Height() int { return 8 }

func (folder) SaveTiles([]tlog.Tile, [][]byte) {}

func (f folder) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var read [][]byte
	for _, tile := range wanted {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data, err := os.ReadFile(filepath.Join(string(f), filepath.FromSlash(path)))
		if err != nil {
			return nil, err
		}
		read = append(read, data)
	}
	return read, nil
}

func check(line []byte) error {
	var c testCase
	if err := json.Unmarshal(line, &c); err != nil {
		return err
	}
	do, known := checks[c.Do]
	if !known {
		return fmt.Errorf("no check is called %q", c.Do)
	}
	return do(c)
}

func main() {
	answers := bufio.NewWriter(os.Stdout)
	defer answers.Flush()
	cases := bufio.NewScanner(os.Stdin)
	cases.Buffer(nil, 1<<26)
	for cases.Scan() {
		if err := check(cases.Bytes()); err != nil {
			fmt.Fprintln(answers, strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Fprintln(answers, "ok")
		}
	}
	if err := cases.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
