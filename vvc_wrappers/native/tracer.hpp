// The seam between VVdeC and codecprior: what is taken from the decoder while it works.
//
// VVdeC is not patched. The linker replaces five of its calls (GNU ld --wrap, see CMakeLists.txt) by functions in
// tracer.cpp, which call the original and then copy what they need.
#pragma once

#include <cstdint>
#include <deque>
#include <set>
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

  // Whether the decoder shall compare pictures with the checksums in the stream, which takes time.
  void verifyPictures( bool verify ) { m_verify = verify; }
  bool verifiesPictures() const { return m_verify; }

  // Called from the decoder's own thread.
  void pictureStarts( vvdec::Picture& picture );
  void pictureIsOutput( const vvdec::Picture* picture ) { m_output.push_back( picture ); }

  // Around the decoder's reading of a unit that may tell it not to output earlier pictures.
  std::vector<vvdec::Picture*> pendingPictures() const;
  void dropPriorPictures( const std::vector<vvdec::Picture*>& pending, const vvdec::Picture& picture );

  // The pictures so far are no references of later ones, which VVdeC overlooks where POCs repeat.
  void sequenceEnded();

  // Called after vvdec_decode() or vvdec_flush() gave a frame: tells the parent about it, now or when its turn comes.
  void takeNextPicture();
  void finish() { closeSequence(); }

  int64_t   started() const { return m_started; }
  int64_t   emitted() const { return m_emitted; }
  bool      complete() const { return m_output.empty() && m_waiting.empty(); }
  SlotPool& pool() { return m_pool; }

private:
  struct Waiting
  {
    int         poc, slot;
    std::string event;
  };
  struct Position
  {
    int decodeOrder, poc;
  };

  void closeSequence();
  void emitWaitingPictures( size_t left = 0 );

  void attachSlot( const vvdec::Picture& picture );
  void announceStream( const vvdec::Picture& picture );
  void copyFrame( const vvdec::Picture& picture, int slot );
  int  sequenceNumber( int decodeOrder ) const;

  SlotPool&                         m_pool;
  TracerOptions                     m_options;
  std::deque<const vvdec::Picture*> m_output;                 // which the decoder has not yet given as frames
  std::vector<Waiting>              m_waiting;                // given, but perhaps in the wrong order
  int                               m_sequence = 0;           // the coded video sequence (CVS) of the last frame
  int                               m_reorder = 0, m_leastReorder = 0;
  std::vector<Position>             m_positions;              // of the frames of that sequence
  std::set<int>                     m_cuts;                   // decoding order of pictures that drop what waits for output
  std::set<vvdec::Picture*>         m_pictures;               // VVdeC's objects, which it uses again and again
  std::vector<int>                  m_sequenceStarts;         // decoding order of the first picture of each CVS
  bool                              m_verify = false;
  int64_t                           m_started = 0, m_emitted = 0;
};

void install( Tracer* tracer );                               // the one that the wrapped calls report to

// One line of JSON to the parent.
void emit( const std::string& line );
std::string quoted( const std::string& text );

// Tells the parent about an error and ends, at once: VVdeC may crash on what is refused here, its threads may hang after
// an error.
[[noreturn]] void leave( const std::string& kind, const std::string& message );

}  // namespace codecprior
