// Shared-memory slots, one per picture: the decoder threads fill them, the parent process reads them in place.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace vvdec { struct Picture; }

namespace codecprior {

// What must be the same for all pictures of a stream: it decides the size of a slot.
struct Geometry
{
  int width = 0, height = 0;                                  // coded luma size
  int left = 0, right = 0, top = 0, bottom = 0;               // conformance window in luma samples
  int bitDepth = 0;
  int chromaFormat = 0;                                       // 0 4:0:0, 1 4:2:0, 2 4:2:2, 3 4:4:4

  bool operator==( const Geometry& o ) const;
  int planes() const { return chromaFormat == 0 ? 1 : 3; }
  int shiftX( int plane ) const { return plane > 0 && chromaFormat != 3 ? 1 : 0; }
  int shiftY( int plane ) const { return plane > 0 && chromaFormat == 1 ? 1 : 0; }
  int planeWidth( int plane ) const { return width >> shiftX( plane ); }
  int planeHeight( int plane ) const { return height >> shiftY( plane ); }
  int gridWidth() const { return ( width + 3 ) / 4; }
  int gridHeight() const { return ( height + 3 ) / 4; }
};

// One array in a slot, as told to the parent.
struct ArrayLayout
{
  std::string name, dtype;
  size_t      offset = 0;
  int         rows = 0, cols = 0, components = 1;
  size_t      sampleBytes = 0;
};

// Arrays in the order of the `Array` enum, offsets within a slot, size of a slot.
enum Array { MV_L0, MV_L1, REF_L0, REF_L1, PRED_MODE, FLAGS, CU_SIZE, QP, RESIDUAL, FRAME = RESIDUAL + 3, NUM_ARRAYS = FRAME + 3 };

struct Slot
{
  std::atomic<const vvdec::Picture*> owner{ nullptr };        // the picture being decoded into it
  uint8_t*          memory = nullptr;
  std::atomic<bool> mvOutOfRange{ false };                    // a vector did not fit into 16 bits
  std::atomic<bool> referenceOutOfRange{ false };             // nor did the distance to a reference
  std::atomic<bool> colourTransform{ false };                 // a residual that VVdeC transforms once more, after prediction
  int               lmcs = 0, pictureType = 0, sliceQp = 0;
};

class SlotPool
{
public:
  static constexpr int MAX_SLOTS = 250;                       // a slot's number travels as one byte
  static constexpr int MAX_HELD  = 6;                         // slots that the parent may hold at a time

  SlotPool( int memoryFd, int releaseFd ) : m_memoryFd( memoryFd ), m_releaseFd( releaseFd ) {}

  void configure( const Geometry& geometry, bool wideVectors, bool withFrames );
  bool configured() const { return m_slotBytes > 0; }

  const Geometry&                 geometry() const { return m_geometry; }
  const std::vector<ArrayLayout>& layout() const { return m_layout; }
  size_t                          slotBytes() const { return m_slotBytes; }
  bool                            wideVectors() const { return m_wideVectors; }

  int   acquire( const vvdec::Picture* owner );               // attach a free slot; waits for the parent if there is none
  int   find( const vvdec::Picture* owner ) const;            // -1: none
  void  discard( int slot );                                  // the picture will never be output
  void  detach( int slot ) { m_slots[slot].owner = nullptr; } // the picture is done, and its object may be used again
  void  hand( int slot );                                     // the parent reads it now; waits while it holds too many
  Slot& operator[]( int slot ) { return m_slots[slot]; }

  template<typename T>
  T* array( int slot, int which ) { return reinterpret_cast<T*>( m_slots[slot].memory + m_layout[m_index[which]].offset ); }

private:
  void collectReleased( bool wait );
  int  grow();

  int                         m_memoryFd, m_releaseFd;
  Geometry                    m_geometry;
  bool                        m_wideVectors = false;
  std::vector<ArrayLayout>    m_layout;
  std::array<int, NUM_ARRAYS> m_index{};
  size_t                      m_slotBytes = 0;
  std::array<Slot, MAX_SLOTS> m_slots;
  std::atomic<int>            m_count{ 0 };
  int                         m_held = 0;
  std::vector<int>            m_free;                         // a stack: the warmest memory is reused first
};

}  // namespace codecprior
