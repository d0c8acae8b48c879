//! Bytecode in the making.

use revm::bytecode::opcode;

/// Code whose jumps are named before their places are known.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<u8>,
    places: Vec<u16>,
    holes: Vec<(usize, Label)>,
}

/// A place to jump to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label(usize);

impl Assembler {
    /// A place that is not known yet.
    pub(super) fn label(&mut self) -> Label {
        self.places.push(0);
        Label(self.places.len() - 1)
    }

    /// Adds opcodes.
    pub(super) fn ops(&mut self, ops: &[u8]) -> &mut Self {
        self.code.extend_from_slice(ops);
        self
    }

    /// Adds an opcode that pushes 1 to 32 bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> &mut Self {
        self.code.push(opcode::PUSH0 + bytes.len() as u8);
        self.ops(bytes)
    }

    /// Adds an opcode that pushes a small number.
    pub(super) fn push1(&mut self, byte: u8) -> &mut Self {
        self.push(&[byte])
    }

    /// Pushes a place.
    pub(super) fn push_label(&mut self, label: Label) -> &mut Self {
        self.holes.push((self.code.len() + 1, label));
        self.push(&[0, 0])
    }

    /// Pushes a place, and jumps there.
    pub(super) fn jump(&mut self, label: Label) -> &mut Self {
        self.push_label(label).ops(&[opcode::JUMP])
    }

    /// Here is the place.
    pub(super) fn place(&mut self, label: Label) -> &mut Self {
        self.places[label.0] = self.code.len() as u16;
        self.ops(&[opcode::JUMPDEST])
    }

    /// Where a label was placed.
    pub(super) fn place_of(&self, label: Label) -> u16 {
        self.places[label.0]
    }

    /// The code.
    pub(super) fn finish(mut self) -> Vec<u8> {
        for (hole, label) in self.holes {
            self.code[hole..hole + 2].copy_from_slice(&self.places[label.0].to_be_bytes());
        }
        self.code
    }
}
