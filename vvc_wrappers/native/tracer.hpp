// The seam between VVdeC and codecprior: what is taken from the decoder while it works.
//
// VVdeC is not patched. The linker replaces five of its calls (GNU ld --wrap, see CMakeLists.txt) by functions in
// tracer.cpp, which call the original and then copy what they need.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "picture_slots.hpp"

namespace codecprior {

struct TracerOptions
{
  bool wideVectors = false;                                   // store vectors as int32 instead of int16
  bool withFrames  = false;                                   // store decoded pictures too
};

class Tracer
{
public:
  Tracer( SlotPool& pool, TracerOptions options ) : m_pool( pool ), m_options( options ) {}

  // Called from the decoder's own thread.
  void pictureStarts( const vvdec::Picture& picture );
  void pictureIsOutput( const vvdec::Picture* picture ) { m_output.push_back( picture ); }

  // Called after vvdec_decode() or vvdec_flush() gave a frame: tells the parent about it.
  void emitNextPicture();

  bool               failed() const { return !m_failureKind.empty(); }
  const std::string& failureKind() const { return m_failureKind; }
  const std::string& failure() const { return m_failure; }
  int64_t            emitted() const { return m_emitted; }
  bool               complete() const { return m_output.empty(); }   // every picture that was output came as a frame
  SlotPool&          pool() { return m_pool; }

private:
  void attachSlot( const vvdec::Picture& picture );
  void announceStream( const vvdec::Picture& picture );
  void copyFrame( const vvdec::Picture& picture, int slot );
  void fail( const char* kind, std::string message );
  int  sequenceNumber( int decodeOrder ) const;

  SlotPool&                         m_pool;
  TracerOptions                     m_options;
  std::deque<const vvdec::Picture*> m_output;
  std::vector<int>                  m_sequenceStarts;         // decoding order of the first picture of each CVS
  int64_t                           m_emitted = 0;
  std::string                       m_failureKind, m_failure;
};

void install( Tracer* tracer );                               // the one that the wrapped calls report to

// One line of JSON to the parent.
void emit( const std::string& line );
std::string quoted( const std::string& text );

}  // namespace codecprior
