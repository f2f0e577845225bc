#include "picture_slots.hpp"

#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <stdexcept>
#include <tuple>

namespace codecprior {

bool Geometry::operator==( const Geometry& o ) const
{
  return std::tie( width, height, left, right, top, bottom, bitDepth, chromaFormat )
      == std::tie( o.width, o.height, o.left, o.right, o.top, o.bottom, o.bitDepth, o.chromaFormat );
}

void SlotPool::configure( const Geometry& geometry, bool wideVectors, bool withFrames )
{
  m_geometry    = geometry;
  m_wideVectors = wideVectors;

  auto add = [&]( int which, const char* name, const char* dtype, int rows, int cols, int components, size_t sampleBytes )
  {
    constexpr size_t ALIGNMENT = 64;
    m_index[which] = (int) m_layout.size();
    m_layout.push_back( { name, dtype, m_slotBytes, rows, cols, components, sampleBytes } );
    m_slotBytes += ( size_t( rows ) * cols * components * sampleBytes + ALIGNMENT - 1 ) / ALIGNMENT * ALIGNMENT;
  };

  const int   rows = geometry.gridHeight(), cols = geometry.gridWidth();
  const char* mvType = wideVectors ? "int32" : "int16";
  add( MV_L0, "mv_l0", mvType, rows, cols, 2, wideVectors ? 4 : 2 );
  add( MV_L1, "mv_l1", mvType, rows, cols, 2, wideVectors ? 4 : 2 );
  add( REF_L0, "ref_poc_delta_l0", "int16", rows, cols, 1, 2 );
  add( REF_L1, "ref_poc_delta_l1", "int16", rows, cols, 1, 2 );
  add( PRED_MODE, "pred_mode", "uint8", rows, cols, 1, 1 );
  add( FLAGS, "coding_flags", "uint8", rows, cols, 1, 1 );
  add( CU_SIZE, "cu_size", "uint8", rows, cols, 1, 1 );
  add( QP, "qp", "int8", rows, cols, 1, 1 );

  static const char* residual[] = { "residual_y", "residual_u", "residual_v" };
  static const char* frame[]    = { "frame_y", "frame_u", "frame_v" };
  const size_t       frameBytes = geometry.bitDepth > 8 ? 2 : 1;
  for( int c = 0; c < geometry.planes(); c++ )
  {
    add( RESIDUAL + c, residual[c], "int16", geometry.planeHeight( c ), geometry.planeWidth( c ), 1, 2 );
  }
  for( int c = 0; withFrames && c < geometry.planes(); c++ )
  {
    add( FRAME + c, frame[c], frameBytes == 2 ? "uint16" : "uint8", geometry.planeHeight( c ), geometry.planeWidth( c ), 1, frameBytes );
  }

  const size_t page = (size_t) sysconf( _SC_PAGESIZE );
  m_slotBytes = ( m_slotBytes + page - 1 ) / page * page;     // each slot is mapped on its own
}

int SlotPool::grow()
{
  const int slot = m_count;
  if( slot == MAX_SLOTS )
  {
    throw std::runtime_error( "too many pictures are in flight" );
  }
  const off_t begin = off_t( slot ) * m_slotBytes;
  if( ftruncate( m_memoryFd, begin + m_slotBytes ) != 0 )
  {
    throw std::runtime_error( "no shared memory left for another picture" );
  }
  void* memory = mmap( nullptr, m_slotBytes, PROT_READ | PROT_WRITE, MAP_SHARED, m_memoryFd, begin );
  if( memory == MAP_FAILED )
  {
    throw std::runtime_error( "no shared memory left for another picture" );
  }
  m_slots[slot].memory = static_cast<uint8_t*>( memory );
  m_count++;
  return slot;
}

void SlotPool::collectReleased( bool wait )
{
  pollfd poller{ m_releaseFd, POLLIN, 0 };
  for( ;; )
  {
    const int ready = poll( &poller, 1, wait ? -1 : 0 );
    if( ready < 0 && errno == EINTR )
    {
      continue;
    }
    if( ready <= 0 )
    {
      return;
    }
    uint8_t       released[MAX_SLOTS];
    const ssize_t count = read( m_releaseFd, released, sizeof( released ) );
    if( count <= 0 )
    {
      _exit( 0 );                                             // the parent is gone
    }
    m_free.insert( m_free.end(), released, released + count );
    m_held -= (int) count;
    return;
  }
}

int SlotPool::acquire( const vvdec::Picture* owner )
{
  collectReleased( false );
  int slot;
  if( m_free.empty() )
  {
    slot = grow();
  }
  else
  {
    slot = m_free.back();
    m_free.pop_back();
  }
  m_slots[slot].mvOutOfRange = m_slots[slot].referenceOutOfRange = m_slots[slot].colourTransform = false;
  m_slots[slot].owner = owner;
  return slot;
}

int SlotPool::find( const vvdec::Picture* owner ) const
{
  for( int slot = 0, count = m_count; slot < count; slot++ )
  {
    if( m_slots[slot].owner == owner )
    {
      return slot;
    }
  }
  return -1;
}

void SlotPool::discard( int slot )
{
  detach( slot );
  m_free.push_back( slot );
}

void SlotPool::hand( int slot )
{
  while( m_held >= MAX_HELD )
  {
    collectReleased( true );
  }
  m_held++;
}

}  // namespace codecprior
